import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.attest_messages import (
    NO_EVIDENCE,
    NOT_JSON,
    AttestRequest,
    AttestRequestError,
    AttestResponse,
    Challenge,
    encode_attest_request,
    encode_attest_response,
    encode_challenge,
    parse_attest_request,
    parse_attest_response,
    parse_challenge,
)
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import EpochMillis

texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.builds(
        AttestRequest,
        evidence=st.binary(min_size=1, max_size=40),
        public_key=st.binary(max_size=40),
        application_name=texts,
        application_version=texts,
        operator_type=texts,
        components=st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))),
        report_data_version=st.just(2),
        nonce=st.binary(min_size=32, max_size=32),
    )
)
def test_requests_round_trip(request: AttestRequest) -> None:
    assert parse_attest_request(encode_attest_request(request)) == request


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", NO_EVIDENCE),
        (b" \n", NO_EVIDENCE),
        (b"{}", NO_EVIDENCE),
        (b'{"attestation_request":""}', NO_EVIDENCE),
        (b'{"attestation_request":null}', NO_EVIDENCE),
        (b"no json", NOT_JSON),
        (b"[]", NOT_JSON),
        (b'{"attestation_request":7}', "attestation_request must be a text"),
        (b'{"attestation_request":"%"}', "attestation_request is not valid base64"),
        (b'{"attestation_request":"AA==","public_key":"%"}', "public_key is not valid base64"),
        (b'{"attestation_request":"AA==","public_key":[]}', "public_key must be a text"),
        (b'{"attestation_request":"AA==","operator_type":1}', "operator_type must be a text"),
        (b'{"attestation_request":"AA==","components":[1]}', "components must be an object"),
        (b'{"attestation_request":"AA==","report_data_version":3}', "report_data_version must be 1 or 2"),
        (b'{"attestation_request":"AA==","report_data_version":true}', "report_data_version must be 1 or 2"),
        (b'{"attestation_request":"AA==","report_data_version":"2"}', "report_data_version must be 1 or 2"),
        (b'{"attestation_request":"AA==","report_data_version":2}', "report_data_version 2 needs the nonce"),
        (b'{"attestation_request":"AA==","nonce":"AAAA"}', "nonce must be base64 of 32 bytes"),
        (b'{"attestation_request":"AA==","nonce":"?"}', "nonce is not valid base64"),
    ],
)
def test_requests_that_are_refused(body: bytes, status: str) -> None:
    with pytest.raises(AttestRequestError, match=status):
        parse_attest_request(body)


def test_a_request_without_a_key_is_left_to_the_verifier() -> None:
    assert parse_attest_request(b'{"attestation_request":"AA=="}') == AttestRequest(b"\0", b"")


@pytest.mark.parametrize("token", [b"\xff" * 256, b"AAAA-BBBB-g"])
def test_responses_round_trip(token: bytes) -> None:
    response = AttestResponse(token, EpochMillis(1_714_558_530_123), "http://optout", "j.w.t", None)
    body = encode_attest_response(response)
    assert json.loads(body)["body"]["expiresAt"] == "2024-05-01T10:15:30.123Z"
    assert "attestation_jwt_core" not in json.loads(body)["body"]
    assert parse_attest_response(body) == response


def test_members_of_a_response() -> None:
    members = json.loads(encode_attest_response(AttestResponse(b"\xff", EpochMillis(0))))
    assert members == {
        "status": "success",
        "body": {"attestation_token": "/w==", "expiresAt": "1970-01-01T00:00:00.000Z", "optout_url": None},
    }


@pytest.mark.parametrize(("text", "millis"), [("", 0), (".1", 100), (".123456", 123), (".123456789", 123)])
def test_instants_have_any_number_of_digits(text: str, millis: int) -> None:
    answer = answer_with(expiresAt=f"2024-05-01T10:15:30{text}Z")
    assert parse_attest_response(answer).expires_at == 1_714_558_530_000 + millis


def answer_with(**changed: Any) -> bytes:
    body = {"attestation_token": "/w==", "expiresAt": "2024-05-01T10:15:30Z", "optout_url": None} | changed
    return json.dumps({"status": "success", "body": body}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"status":"success"}',
        b'{"status":"failure","body":{}}',
        answer_with(attestation_token=None),
        answer_with(attestation_token="%"),
        answer_with(expiresAt="2024-05-01T10:15:30"),
        answer_with(expiresAt="2024-13-01T10:15:30Z"),
        answer_with(expiresAt=7),
    ],
)
def test_unusable_answers_are_refused(body: bytes) -> None:
    with pytest.raises(DependencyError, match="/attest is unusable"):
        parse_attest_response(body)


def test_challenges_round_trip() -> None:
    challenge = Challenge(bytes(range(32)))
    body = json.loads(encode_challenge(challenge))
    assert body["body"] == {
        "nonce": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "versions": [1, 2],
        "expires_in": 60,
    }
    assert parse_challenge(encode_challenge(challenge)) == challenge


@pytest.mark.parametrize(
    "changed", [{"nonce": "AA=="}, {"nonce": 1}, {"versions": [True]}, {"versions": 1}, {"expires_in": 0}]
)
def test_unusable_challenges_are_refused(changed: dict[str, Any]) -> None:
    body = json.loads(encode_challenge(Challenge(bytes(32))))
    body["body"] |= changed
    with pytest.raises(DependencyError, match="/attest/challenge is unusable"):
        parse_challenge(json.dumps(body).encode())
