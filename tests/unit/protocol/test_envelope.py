import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import OpenedRequest, open_request, open_response, seal_request, seal_response
from uid2.protocol.errors import EnvelopeError, InternalTokenError
from uid2.protocol.ids import EpochMillis, IdentityScope

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tokens.json").read_text())["v2_envelopes"]
SECRET = bytes(range(32))
KEY = GcmKey(SECRET)
NOW = EpochMillis(1_710_907_366_130)
NONCE, IV = b"nonce--8", bytes(12)
UID2, EUID = IdentityScope.UID2, IdentityScope.EUID
HINT = (
    " See https://unifiedid.com/docs/getting-started/gs-encryption-decryption for details on the request "
    "envelope format."
)
UNENCRYPTED = (
    "Invalid body: The request body is unencrypted JSON. It must be an encrypted request envelope. See "
    "https://unifiedid.com/docs/getting-started/gs-encryption-decryption#encryption-and-decryption-code-examples "
    "for encryption and decryption code examples."
)


def _sealed(payload: bytes = b"{}", age: int = 0) -> bytes:
    return seal_request(payload, NONCE, EpochMillis(NOW - age), KEY, IV)


def _open(body: bytes, binary: bool = False, scope: IdentityScope = UID2) -> OpenedRequest:
    return open_request(body, binary, KEY, NOW, scope)


def _refusal(body: bytes, binary: bool = False, scope: IdentityScope = UID2) -> str:
    with pytest.raises(EnvelopeError) as caught:
        _open(body, binary, scope)
    return caught.value.message


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
def test_request_vector(vector: dict[str, Any]) -> None:
    key = GcmKey(decode_base64(vector["client_secret_b64"]))
    opened = open_request(vector["envelope_b64"].encode(), False, key, vector["timestamp_ms"], UID2)
    assert opened.nonce.hex() == vector["nonce_hex"]
    assert opened.timestamp == vector["timestamp_ms"]
    assert opened.payload.decode() == (vector["payload"] or "")
    sealed = seal_request(opened.payload, opened.nonce, opened.timestamp, key, bytes.fromhex(vector["iv_hex"]))
    assert sealed.hex() == vector["envelope_hex"]


@pytest.mark.parametrize("vector", VECTORS["responses"], ids=lambda vector: vector["name"])
def test_response_vector(vector: dict[str, Any]) -> None:
    key = GcmKey(decode_base64(vector["client_secret_b64"]))
    blob = seal_response(
        vector["payload"].encode(),
        bytes.fromhex(vector["nonce_hex"]),
        vector["timestamp_ms"],
        key,
        bytes.fromhex(vector["iv_hex"]),
    )
    assert blob.hex() == vector["response_hex"]
    opened = open_response(blob, key)
    assert (opened.timestamp, opened.nonce.hex()) == (vector["timestamp_ms"], vector["nonce_hex"])
    assert opened.payload.decode() == vector["payload"]


def test_published_envelope() -> None:
    vector = VECTORS["upstream_constant"]
    key = GcmKey(decode_base64(vector["client_secret_b64"]))
    opened = open_request(vector["envelope_b64"].encode(), False, key, vector["timestamp_ms"], UID2)
    assert opened.nonce.hex() == vector["nonce_hex"]
    document = opened.document()
    assert document is not None
    assert document["email_hash"] == "LdhtUlMQ58ZZy5YUqGPRQw5xUMS5dXG5ocJHYJHbAKI="


def test_refresh_answer_is_sealed_with_the_response_key_alone() -> None:
    vector = VECTORS["token_refresh_response"]
    key = GcmKey(decode_base64(vector["refresh_response_key_b64"]))
    sealed = key.seal(bytes.fromhex(vector["iv_hex"]), vector["payload"].encode())
    assert encode_base64(sealed) == vector["response_b64"]


@given(st.binary(max_size=100), st.booleans())
def test_round_trip(payload: bytes, binary: bool) -> None:
    sealed = _sealed(payload)
    opened = _open(sealed if binary else encode_base64(sealed).rstrip("=").encode(), binary)
    assert (opened.payload, opened.nonce, opened.binary) == (payload, NONCE, binary)


@pytest.mark.parametrize("age", [0, 119_999, -1, -119_000])
def test_timely(age: int) -> None:
    assert _open(_sealed(age=age), binary=True).timestamp == NOW - age


@pytest.mark.parametrize("age", [120_000, -119_001, NOW + 2**63 - 1])
def test_untimely(age: int) -> None:
    assert _refusal(_sealed(age=age), binary=True) == "Invalid timestamp: Request too old or client time drift."


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Invalid body: Body is missing."),
        (b'{"email":"a"}', UNENCRYPTED),
        (b' /* c */ {"email": "a"} ', UNENCRYPTED),
        (b"[1]", "Invalid body: Body is not valid base64." + HINT),
        (encode_base64(_sealed()).encode() + b"\n", "Invalid body: Body is not valid base64." + HINT),
        ("é".encode(), "Invalid body: Body is not valid base64." + HINT),
        (encode_base64(b'{"email":"a"}').encode(), UNENCRYPTED),
        (encode_base64(b"x" * 44).encode(), "Invalid body: Body too short. Check encryption method." + HINT),
        (encode_base64(b'{"email":"' + b"a" * 60 + b'"}').encode(), UNENCRYPTED),
        (
            encode_base64(b"\xff" * 45).encode(),
            "Invalid body: Invalid request envelope format version: received 255, must be 1." + HINT,
        ),
        (encode_base64(b"\x01" * 45).encode(), "Invalid body: Check encryption key (ClientSecret)." + HINT),
    ],
)
def test_text_refusals(body: bytes, text: str) -> None:
    assert _refusal(body) == text
    assert _refusal(body, scope=EUID) == text.replace("https://unifiedid.com", "https://euid.eu")


def test_binary_refusals() -> None:
    assert _refusal(b"", binary=True) == "Invalid body: Body is missing."
    assert _refusal(b'{"a":1}', binary=True) == UNENCRYPTED
    assert _refusal(b"\x02" * 45, binary=True).startswith(
        "Invalid body: Invalid request envelope format version: received 2,"
    )
    # Base64 of an envelope under another key: the second reading is the one reported.
    foreign = seal_request(b"{}", NONCE, NOW, GcmKey(bytes(32)), IV)
    assert _refusal(encode_base64(foreign).encode(), binary=True).startswith("Invalid body: Check encryption key")
    # Base64 that is no envelope either way.
    assert _refusal(b"AAAA", binary=True) == "Invalid body: Body too short. Check encryption method." + HINT


def test_base64_in_a_binary_body_is_answered_as_text() -> None:
    assert _open(encode_base64(_sealed(b'{"a":1}')).encode(), binary=True).binary is False
    assert _open(_sealed(b'{"a":1}'), binary=True).binary is True


def test_document() -> None:
    assert _open(_sealed(b""), True).document() is None
    assert _open(_sealed(b'{"a":1}'), True).document() == {"a": 1}
    for payload in (b"[]", b"null", b" ", b"{", b'{"a":"\xff"}'):
        with pytest.raises(EnvelopeError, match=r"^Invalid payload in body: Data is not valid json string\.$"):
            _open(_sealed(payload), True).document()


def test_every_truncation_and_bit_flip_is_refused() -> None:
    sealed = _sealed(b'{"a":1}')
    for size in range(len(sealed)):
        _refusal(encode_base64(sealed[:size]).encode())
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        _refusal(encode_base64(damaged).encode())
        _refusal(bytes(damaged), binary=True)


def test_short_or_foreign_responses_are_refused() -> None:
    blob = seal_response(b"{}", NONCE, NOW, KEY, IV)
    for size in range(len(blob)):
        with pytest.raises(InternalTokenError):
            open_response(blob[:size], KEY)
    with pytest.raises(InternalTokenError, match="too short"):
        open_response(KEY.seal(IV, b"15 bytes of it."), KEY)
    with pytest.raises(InternalTokenError):
        open_response(blob, GcmKey(bytes(32)))


def test_nonce_length_is_fixed() -> None:
    with pytest.raises(ValueError, match="nonce"):
        seal_request(b"", b"short", NOW, KEY, IV)


def test_payload_and_key_do_not_show() -> None:
    shown = repr(_open(_sealed(b'{"email":"someone"}'), True)) + repr(KEY)
    assert "someone" not in shown
    assert repr(SECRET) not in shown
