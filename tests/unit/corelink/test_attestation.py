"""Attesting with Core: every way in which it may fail, and renewal."""

import base64
import json
import threading
from typing import Any

import pytest
from core_side import HOUR, KEY, NOW, FakeQuotes, side_of
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_core import FakeCore

from uid2.attestation.binding import report_data_v1, report_data_v2
from uid2.corelink.exchange import AttestationRefusedError
from uid2.corelink.headers import caller_identity
from uid2.corelink.rules import pause_after, renewal_after
from uid2.protocol.attest_messages import AttestResponse, encode_attest_response, parse_attest_request
from uid2.protocol.crypto.rsa import public_der, wrap
from uid2.protocol.errors import ConfigurationError, DependencyError, StoreUnavailableError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.secret import Secret
from uid2.service.messages import Request, Response, json_response


def answering(status: int, document: Any = None) -> Any:
    return lambda _: json_response(status, document if document is not None else {"status": "x"})


def test_the_request_is_the_documented_one(core: FakeCore) -> None:
    side_of(core).attestation.credentials()
    (call,) = core.calls
    body = json.loads(call.body)
    assert base64.b64decode(body.pop("public_key"))[:4] == bytes.fromhex("30820122")
    assert body == {
        "attestation_request": "AA==",
        "application_name": "uid2-operator",
        "application_version": "5.70.250",
        "operator_type": "public",
        "components": {"uid2-shared": "5.70.250", "uid2-attestation-api": "5.70.250"},
    }
    assert call.header("authorization") == f"Bearer {KEY}"
    assert call.header("content-type") == "application/json"
    assert call.header("uid-instance-id") == "test-0001"
    versions = "uid2-operator=5.70.250;uid2-shared=5.70.250;uid2-attestation-api=5.70.250"
    assert call.header("x-uid2-appversion") == versions


def test_every_refresh_carries_the_headers(core: FakeCore) -> None:
    core.jwt_core, core.jwt_optout = "for.core.jwt", "for.optout.jwt"
    side = side_of(core, encrypted=True)
    side.read()
    side.read()
    attest, first, second = core.calls
    for name, value in {
        "authorization": f"Bearer {KEY}",
        "attestation-token": "dG9rZW4=-1-g",
        "attestation-jwt": "for.core.jwt",
        "encrypted": "true",
        "uid-instance-id": "test-0001",
    }.items():
        assert (first.header(name), second.header(name)) == (value, value)
    assert len({call.header("uid-trace-id") for call in (attest, first, second)}) == 3
    assert side.attestation.optout_headers()["Attestation-JWT"] == "for.optout.jwt"
    assert side.attestation.optout_url == "http://optout.example"


def test_without_a_challenge_the_report_data_have_version_1(core: FakeCore) -> None:
    side = side_of(core, quotes := FakeQuotes())
    side.attestation.credentials()
    request = parse_attest_request(core.attestations[0].body)
    assert quotes.asked == [report_data_v1(request.public_key)]
    assert (request.report_data_version, request.nonce) == (1, None)
    assert request.evidence == b"quote over " + quotes.asked[0]


def test_a_nonce_makes_report_data_of_version_2(core: FakeCore) -> None:
    core.challenge_status = 200
    side = side_of(core, quotes := FakeQuotes())
    side.attestation.credentials()
    request = parse_attest_request(core.attestations[0].body)
    assert quotes.asked == [report_data_v2(request.public_key, core.nonces[0], core.origin)]
    assert (request.report_data_version, request.nonce) == (2, core.nonces[0])
    assert side.attestation.status()["report_data_version"] == 2


def test_each_attempt_has_a_fresh_key_and_nonce(core: FakeCore) -> None:
    core.challenge_status = 200
    core.replies["/attest"] = answering(500)
    side = side_of(core, FakeQuotes())
    for _ in range(3):
        with pytest.raises(DependencyError):
            side.attestation.credentials()
        side.advance(60)
    asked = [parse_attest_request(call.body) for call in core.attestations]
    assert (len({request.public_key for request in asked}), len({request.nonce for request in asked})) == (3, 3)


@pytest.mark.parametrize("path", ["/attest", "/attest/challenge"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_final(core: FakeCore, path: str, status: int) -> None:
    said = {"status": "The enclave identifier is unknown", "reason_code": "unknown_enclave\n"}
    core.replies[path] = answering(status, said)
    side = side_of(core, FakeQuotes())
    with pytest.raises(AttestationRefusedError, match=r"unknown; unknown_enclave \)") as caught:
        side.attestation.credentials()
    assert (caught.value.code, str(status) in caught.value.message) == ("attestation_refused", True)
    assert side.attestation.refusal is caught.value
    calls = len(core.calls)
    core.replies.clear()
    side.advance(HOUR)
    with pytest.raises(AttestationRefusedError):
        side.read()
    assert (len(core.calls), side.attestation.due()) == (calls, False)


def granted(core: FakeCore, **changes: Any) -> Any:
    def reply(request: Request) -> Response:
        wrapped = changes.get("token") or wrap(parse_attest_request(request.body).public_key, b"dG9r-ZW4=-g")
        expires = changes.get("expires", core.clock.now_ms() + 7_200_000)
        return Response(200, encode_attest_response(AttestResponse(wrapped, EpochMillis(expires))))

    return reply


FOREIGN = wrap(public_der(rsa.generate_private_key(65537, 2048)), b"dG9r-ZW4=-g")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answering(500), "answered 500"),
        (answering(503, {"status": "attestation failure", "reason_code": "not_ready"}), "not_ready"),
        (answering(302), "answered 302"),
        (answering(400, {"status": "no attestation_request attached"}), "no attestation_request attached"),
        (lambda _: Response(200, b"<html>"), "not a JSON object"),
        (lambda _: Response(200, b""), "not a JSON object"),
        (answering(200, {"status": "success"}), "no success with a body"),
        (answering(200, {"status": "success", "body": {"attestation_token": "AAAA"}}), "expiresAt"),
        (answering(200, {"status": "success", "body": {"attestation_token": "?", "expiresAt": "x"}}), "base64"),
        ("foreign key", "not wrapped for our key"),
        ("short", "not wrapped for our key"),
        ("header injection", "not wrapped for our key"),
        ("expired", "already expired"),
    ],
)
def test_other_failures_are_tried_again(core: FakeCore, reply: Any, words: str) -> None:
    def injected(request: Request) -> Response:
        token = wrap(parse_attest_request(request.body).public_key, b"dG9r\r\nx: y-ZW4=-g")
        return granted(core, token=token)(request)

    named = {
        "foreign key": granted(core, token=FOREIGN),
        "short": granted(core, token=b"\x01" * 100),
        "header injection": injected,
        "expired": granted(core, expires=NOW - 1000),
    }
    core.replies["/attest"] = named.get(reply, reply) if isinstance(reply, str) else reply
    side = side_of(core)
    with pytest.raises(DependencyError, match=words):
        side.attestation.credentials()
    status = side.attestation.status()
    assert (status["attested"], status["failures"], side.watch.events) == (False, 1, ["failed"])
    assert words in status["problem"]
    # Nobody calls before the pause is over; then it works.
    calls = len(core.calls)
    with pytest.raises(StoreUnavailableError, match=words):
        side.read()
    assert len(core.calls) == calls
    core.replies.clear()
    side.advance(60)
    side.read()
    assert side.watch.events[-2:] == ["attested", "core_answered"]


@pytest.mark.parametrize("trouble", ["hangs", "is gone", "quotes fail", "quotes crash"])
def test_what_gives_no_answer_is_tried_again(core: FakeCore, trouble: str) -> None:
    quotes = FakeQuotes()
    release = threading.Event()

    def hang(_: Request) -> None:
        release.wait(1)

    match trouble:
        case "hangs":
            core.replies["/attest/challenge"] = hang
        case "is gone":
            core.stop()
        case "quotes fail":
            quotes.error = DependencyError("error 0xE019 from the driver")
        case "quotes crash":
            quotes.error = OSError("device detail")
    side = side_of(core, quotes)
    with pytest.raises(DependencyError) as caught:
        side.attestation.credentials()
    release.set()
    assert "device detail" not in caught.value.message
    assert side.attestation.refusal is None
    if trouble == "is gone":
        core.start()
    core.replies.clear()
    quotes.error = None
    side.advance(60)
    assert side.attestation.renew()


def test_the_pauses_grow_and_are_spread() -> None:
    none, most = b"\0\0\0\0", b"\xff\xff\xff\xff"
    assert [pause_after(n, none) for n in (1, 2, 3, 7, 100)] == [0.5, 1, 2, 30, 30]
    assert pause_after(2, b"\x80\0\0\0") == 1.5
    assert 59.9 < pause_after(100, most) < 60


def test_the_same_randomness_gives_the_same_pauses(core: FakeCore) -> None:
    core.replies["/attest"] = answering(500)
    seen = []
    for _ in range(2):
        side = side_of(core)
        waits = []
        for _ in range(4):
            with pytest.raises(DependencyError):
                side.attestation.credentials()
            waits.append(side.attestation.wait_seconds())
            side.advance(60)
        seen.append(waits)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 4


def test_it_attests_again_ten_minutes_before_the_end(core: FakeCore) -> None:
    side = side_of(core)
    first = side.attestation.credentials()
    side.advance(7200 - 601)
    assert not side.attestation.due()
    side.advance(1)
    assert side.attestation.renew()
    assert side.attestation.credentials().token != first.token
    assert [renewal_after(seconds) for seconds in (7200, 1200, 300)] == [6600, 600, 150]


def test_a_failed_renewal_keeps_the_old_credentials_until_their_end(core: FakeCore) -> None:
    side = side_of(core)
    first = side.attestation.credentials()
    core.replies["/attest"] = answering(500)
    side.advance(6600)
    assert side.attestation.renew()
    assert side.attestation.credentials() is first
    side.read()
    side.advance(600)
    assert not side.attestation.attested
    with pytest.raises(StoreUnavailableError):
        side.read()


def test_members_that_a_renewal_leaves_out_keep_their_values(core: FakeCore) -> None:
    core.jwt_core, core.jwt_optout = "a.b.c", "d.e.f"
    side = side_of(core)
    side.attestation.credentials()
    core.jwt_core = core.jwt_optout = core.optout_url = None
    side.advance(6600)
    side.attestation.renew()
    held = side.attestation.credentials()
    assert (held.jwt_core, held.jwt_optout, held.optout_url) == ("a.b.c", "d.e.f", "http://optout.example")
    assert len(core.attestations) == 2


def test_a_401_on_a_refresh_attests_again(core: FakeCore) -> None:
    side = side_of(core)
    side.read()
    side.advance(61)
    core.forget_tokens()
    assert json.loads(side.read())["sites"]
    assert len(core.attestations) == 2


def test_a_401_right_after_an_attestation_does_not(core: FakeCore) -> None:
    side = side_of(core)
    core.replies["/sites/refresh"] = answering(401)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="response code 401"):
            side.read()
    assert len(core.attestations) == 1
    side.advance(61)
    with pytest.raises(StoreUnavailableError, match="response code 401"):
        side.read()
    assert len(core.attestations) == 2


def test_a_disabled_key_is_found_out_by_a_refresh(core: FakeCore) -> None:
    side = side_of(core)
    side.read()
    side.advance(61)
    disabled = {"status": "unauthorized", "reason": "key_disabled"}
    core.replies |= {"/attest": answering(401, disabled), "/sites/refresh": answering(401, disabled)}
    with pytest.raises(AttestationRefusedError, match="key_disabled"):
        side.read()
    assert side.attestation.refusal is not None


@pytest.mark.parametrize("status", [403, 404, 500])
def test_other_answers_to_a_refresh_fail_without_attesting(core: FakeCore, status: int) -> None:
    side = side_of(core)
    core.replies["/sites/refresh"] = answering(status)
    with pytest.raises(StoreUnavailableError, match=f"E12: Data Download Failure - HTTP response code {status}"):
        side.read()
    assert len(core.attestations) == 1


@pytest.mark.parametrize("ahead_ms", [-10_800_000, 0, 10_800_000])
def test_a_wrong_wall_clock_does_no_harm_and_is_shown(core: FakeCore, ahead_ms: int) -> None:
    core.skew_ms = -ahead_ms
    side = side_of(core)
    side.read()
    status = side.attestation.status()
    assert abs(status["clock_skew_ms"] - ahead_ms) <= 1000
    assert (status["attested"], 7190 <= status["expires_in_seconds"] <= 7200) == (True, True)
    side.clock.set(NOW + 50_000_000)
    assert side.attestation.attested


def test_without_a_date_the_jwt_tells_the_time(core: FakeCore) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"iat": NOW // 1000 - 90}).encode()).rstrip(b"=").decode()
    core.with_date, core.jwt_core = False, f"e30.{claims}.c2ln"
    side = side_of(core)
    side.attestation.credentials()
    assert side.attestation.skew_ms == 89_500


@pytest.mark.parametrize("key", [None, "", "with space", "with\nline", "é"])
def test_an_operator_key_that_no_header_holds_is_refused(key: str | None) -> None:
    with pytest.raises(ConfigurationError, match="core_api_token"):
        caller_identity(None if key is None else Secret(key.encode()), "uid2-operator", "1", "i", "public")


def test_no_secret_shows(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    core.jwt_core = "a.secret.jwt"
    side = side_of(core)
    held = side.attestation.credentials()
    core.replies["/sites/refresh"] = answering(500)
    with pytest.raises(StoreUnavailableError) as caught:
        side.source.read(f"{core.origin}/sites/refresh?signature=hidden")
    shown = f"{held!r} {caught.value.diagnosis()} {caplog.text} {side.attestation.status()}"
    for secret in (KEY, held.token, "secret", "hidden"):
        assert secret not in shown
