import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uid2.protocol.crypto import cbc
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, EnvelopeError, InternalTokenError, Uid2Error
from uid2.protocol.ids import EpochSeconds, IdentityScope, IdentityType, KeyId, KeysetId, SiteId, TokenVersion
from uid2.protocol.keysets import KeyRing, KeysetKey
from uid2.protocol.secret import Secret
from uid2.protocol.tokens.fields import OperatorIdentity, PublisherIdentity
from uid2.protocol.tokens.refresh import decode_refresh_token, encode_refresh_token
from uid2.protocol.tokens.wrapped import WRAPPED_LENGTH, unwrap_refresh_token, wrap_refresh_token

VECTORS = json.loads((Path(__file__).parents[3] / "vectors/tokens.json").read_text())
SECRET = decode_base64(VECTORS["keys"]["refresh"]["secret"])
KEY = KeysetKey(
    KeyId(102), KeysetId(-2), EpochSeconds(0), EpochSeconds(0), EpochSeconds(2**40), Secret(SECRET), GcmKey(SECRET)
)
RING = KeyRing((), (KEY,))
CURRENT = VECTORS["refresh_tokens_v3"]["vectors"]
RESPONSE_KEY = bytes(range(32))
BAD_DATA = "Invalid data: Check encryption method and encryption key."
BAD_FORMAT = "Invalid format: Payload is not valid json or missing required data."


@pytest.mark.parametrize(
    "vector", CURRENT, ids=lambda vector: f"{vector['scope']}-{vector['type']}-{vector['publisher']['site_id']}"
)
def test_current_vector(vector: dict[str, Any]) -> None:
    token = decode_refresh_token(vector["refresh_token"], RING)
    operator = vector["operator"]
    assert (token.scope.name, token.identity_type.name) == (vector["scope"], vector["type"].upper())
    assert (token.created, token.expires) == (vector["created_ms"], vector["expires_ms"])
    assert token.established == vector["established_ms"]
    assert token.operator == OperatorIdentity(
        operator["site_id"], operator["operator_type"], operator["operator_version"], operator["operator_key_id"]
    )
    assert token.publisher == PublisherIdentity(**vector["publisher"])
    assert token.privacy_bits == vector["privacy_bits"]
    assert token.first_level_hash.hex() == vector["first_level_hash_hex"]
    assert (token.version, token.key_id) == (TokenVersion.V3, vector["refresh_key_id"])
    assert encode_refresh_token(token, KEY, bytes.fromhex(vector["iv_hex"])) == vector["refresh_token"]


@pytest.mark.parametrize("vector", [vector for vector in CURRENT if "wrapped" in vector], ids=lambda v: v["scope"])
def test_wrapped_vector(vector: dict[str, Any]) -> None:
    wrapped = vector["wrapped"]
    response_key = decode_base64(wrapped["refresh_response_key_b64"])
    text = wrap_refresh_token(
        vector["refresh_token"], response_key, IdentityScope[vector["scope"]], KEY, bytes.fromhex(wrapped["iv_hex"])
    )
    assert text == wrapped["refresh_token"]
    assert len(text) == WRAPPED_LENGTH
    opened = unwrap_refresh_token(text, RING)
    assert (opened.response_key, opened.refresh_token) == (response_key, vector["refresh_token"])


def test_legacy_vector() -> None:
    (vector,) = VECTORS["refresh_tokens_v2"]["vectors"]
    token = decode_refresh_token(vector["refresh_token"], RING)
    assert (token.scope, token.identity_type) == (IdentityScope.UID2, IdentityType.EMAIL)
    assert (token.created, token.expires) == (vector["created_ms"], vector["decoded_expires_ms"])
    assert (token.publisher, token.privacy_bits) == (PublisherIdentity(SiteId(123)), vector["privacy_bits"])
    assert token.established == vector["established_ms"]
    assert token.first_level_hash.hex() == vector["first_level_hash_hex"]


@pytest.mark.parametrize("vector", VECTORS["malformed_refresh_tokens"]["vectors"], ids=lambda vector: vector["name"])
def test_malformed_vector(vector: dict[str, Any]) -> None:
    kind, _, text = vector["outcome"].partition(": ")
    with pytest.raises(ClientInputError if kind == "ClientInput" else InternalTokenError) as caught:
        decode_refresh_token(vector["token"], RING)
    assert caught.value.message == ("token data is too short" if text == "out of bounds" else text)


def test_every_truncation_and_bit_flip_is_refused() -> None:
    data = decode_base64(CURRENT[0]["refresh_token"])
    for size in range(len(data)):
        with pytest.raises(Uid2Error):
            decode_refresh_token(encode_base64(data[:size]), RING)
    for bit in range(len(data) * 8):
        if bit in (0, 1, 2, 6, 7):
            continue  # bits of the header without a meaning
        damaged = bytearray(data)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(Uid2Error):
            decode_refresh_token(encode_base64(damaged), RING)


@pytest.mark.parametrize("size", range(90))
def test_short_contents_are_internal_errors(size: int) -> None:
    sealed = KEY.gcm.seal(bytes(12), (bytes(57) + b"\x03" + bytes(32))[:size])
    with pytest.raises(InternalTokenError, match="too short"):
        decode_refresh_token(encode_base64(b"\x03\x70\0\0\0\x66" + sealed), RING)


@pytest.mark.parametrize(
    ("identity", "error"),
    [
        (b"\0\0\0\x7b\0\0\0\x04****" + bytes(12), ClientInputError),
        (b"\0\0\0\x7b\xff\xff\xff\xff" + bytes(16), InternalTokenError),
        (b"\0\0\0\x7b\x7f\xff\xff\xff" + bytes(16), InternalTokenError),
        (b"\0\0\0", InternalTokenError),
    ],
)
def test_legacy_contents(identity: bytes, error: type[Uid2Error]) -> None:
    sealed = cbc.encrypt(SECRET, bytes(16), identity)
    with pytest.raises(error) as caught:
        decode_refresh_token(encode_base64(b"\x02" + bytes(24) + b"\0\0\0\x66" + sealed), RING)
    if error is ClientInputError:
        text = "Failed to decode refreshTokenV2: Identity segment is not valid base64."
        assert caught.value.message == text


def test_only_version_3_is_emitted() -> None:
    token = decode_refresh_token(CURRENT[0]["refresh_token"], RING)
    with pytest.raises(ClientInputError, match=r"^RefreshToken version V4 not supported$"):
        encode_refresh_token(replace(token, version=TokenVersion.V4), KEY, bytes(12), TokenVersion.V4)


def test_wrapping_another_length_is_an_internal_error() -> None:
    with pytest.raises(InternalTokenError, match=r"^Generated refresh token's length=\d+ is not equal to=388$"):
        wrap_refresh_token("short", RESPONSE_KEY, IdentityScope.UID2, KEY, bytes(12))


def _wrapped(payload: bytes, key_id: int = 102) -> str:
    return encode_base64(b"\0" + key_id.to_bytes(4, "big") + KEY.gcm.seal(bytes(12), payload))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*" * 388, "Invalid body: Body is not valid base64."),
        (_wrapped(b"{}", 7), "Invalid key: Generator of this token (Key ID: 7) does not exist."),
        ("", BAD_DATA),
        (encode_base64(b"\0\0\0\0\x66" + bytes(286)), BAD_DATA),
        (_wrapped(b"["), BAD_FORMAT),
        (_wrapped(b"[]"), BAD_FORMAT),
        (_wrapped(b"{}"), BAD_FORMAT),
        (_wrapped(b'{"refresh_response_key":null}'), BAD_FORMAT),
        (_wrapped(b'{"refresh_response_key":"***"}'), BAD_FORMAT),
        (_wrapped(b'{"refresh_response_key":"AAAA"}'), BAD_FORMAT),
    ],
)
def test_wrapped_refusals(text: str, message: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        unwrap_refresh_token(text, RING)
    assert caught.value.message == message


def test_wrapped_without_a_refresh_token() -> None:
    payload = json.dumps({"refresh_response_key": encode_base64(RESPONSE_KEY)}).encode()
    opened = unwrap_refresh_token(_wrapped(payload), RING)
    assert (opened.response_key, opened.refresh_token) == (RESPONSE_KEY, None)
    assert "response_key" not in repr(opened)


def test_every_wrapped_truncation_and_bit_flip_is_refused() -> None:
    data = decode_base64(CURRENT[0]["wrapped"]["refresh_token"])
    for size in range(len(data)):
        with pytest.raises(EnvelopeError):
            unwrap_refresh_token(encode_base64(data[:size]), RING)
    for bit in range(8, len(data) * 8):  # the first byte is ignored
        damaged = bytearray(data)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(EnvelopeError):
            unwrap_refresh_token(encode_base64(damaged), RING)
