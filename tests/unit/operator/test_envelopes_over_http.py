"""The envelope as callers meet it: every row of the operator chapter, 4.5, and the modes of 4.4."""

import json
from typing import Any

import pytest

from uid2.protocol.encoding import encode_base64
from uid2.protocol.envelope import seal_request

PATH = "/v2/token/generate"
KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
EMAIL = b'{"email":"someone@example.com"}'
GUIDE = "https://unifiedid.com/docs/getting-started/gs-encryption-decryption"
HINT = f" See {GUIDE} for details on the request envelope format."
PLAIN_JSON = (
    "Invalid body: The request body is unencrypted JSON. It must be an encrypted request envelope. See "
    f"{GUIDE}#encryption-and-decryption-code-examples for encryption and decryption code examples."
)
LONG_JSON = b'{"email":"' + b"a" * 60 + b'"}'


def send(operator: Any, body: bytes, content_type: str = "text/plain") -> Any:
    return operator.send(PATH, body, authorization=f"Bearer {KEY}", content_type=content_type)


def sealed(operator: Any, payload: bytes = EMAIL, age_ms: int = 0) -> bytes:
    now = operator.context.clock.now_ms() - age_ms
    return seal_request(payload, b"nonce-08", now, operator.client(KEY).gcm, bytes(12))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid body: Body is missing."),
        (EMAIL, PLAIN_JSON),
        (b"not base64!", "Invalid body: Body is not valid base64." + HINT),
        (encode_base64(bytes(60)).encode() + b"\n", "Invalid body: Body is not valid base64." + HINT),
        (encode_base64(EMAIL).encode(), PLAIN_JSON),
        (encode_base64(b"\x01" * 44).encode(), "Invalid body: Body too short. Check encryption method." + HINT),
        (encode_base64(LONG_JSON).encode(), PLAIN_JSON),
        (
            encode_base64(b"\xff" * 60).encode(),
            "Invalid body: Invalid request envelope format version: received 255, must be 1." + HINT,
        ),
        (encode_base64(b"\x01" * 60).encode(), "Invalid body: Check encryption key (ClientSecret)." + HINT),
    ],
)
def test_each_fault_of_an_envelope_has_its_text(operator: Any, body: bytes, message: str) -> None:
    response = send(operator, body)
    assert response.status == 400
    assert json.loads(response.body) == {"status": "client_error", "message": message}
    assert not operator.metrics.counts


@pytest.mark.parametrize(("age", "status"), [(-119_000, 200), (-119_001, 400), (119_999, 200), (120_000, 400)])
def test_the_time_window(operator: Any, age: int, status: int) -> None:
    response = send(operator, encode_base64(sealed(operator, age_ms=age)).encode())
    assert response.status == status
    if status == 400:
        message = json.loads(response.body)["message"]
        assert message == "Invalid timestamp: Request too old or client time drift."


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"x"', b"null", b"{} x", b"\xff", b"{", b'{"a":' * 5000])
def test_a_payload_is_a_json_object(operator: Any, payload: bytes) -> None:
    response = send(operator, encode_base64(sealed(operator, payload)).encode())
    message = json.loads(response.body)["message"]
    assert (response.status, message) == (400, "Invalid payload in body: Data is not valid json string.")


def test_the_answer_has_the_form_of_the_request(operator: Any) -> None:
    raw = sealed(operator)
    text = encode_base64(raw).encode()
    octets = "application/octet-stream"
    forms = {
        (raw, "Application/Octet-Stream"): octets,
        (text, octets): "text/plain",
        (text, f"{octets}; charset=utf-8"): "text/plain",
        (text, "application/x-www-form-urlencoded"): "text/plain",
        (text.decode().encode("utf-16"), "text/plain; charset=UTF-16"): "text/plain",
    }
    for (body, content_type), expected in forms.items():
        response = send(operator, body, content_type)
        assert (response.status, response.content_type) == (200, expected), content_type
    assert send(operator, raw, f"{octets}; charset=utf-8").status == 400


def test_the_guide_is_that_of_the_scope(make_operator: Any) -> None:
    message = json.loads(send(make_operator(identity_scope="euid"), b"!").body)["message"]
    assert "https://euid.eu/docs/" in message


def test_no_truncation_or_flipped_bit_gets_through(operator: Any) -> None:
    raw = sealed(operator)
    for length in range(len(raw)):
        assert send(operator, raw[:length], "application/octet-stream").status == 400
    for place in range(len(raw)):
        changed = raw[:place] + bytes((raw[place] ^ 0x10,)) + raw[place + 1 :]
        assert send(operator, changed, "application/octet-stream").status == 400
