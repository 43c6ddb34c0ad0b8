import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, decode_base64url, encode_base64, encode_base64url
from uid2.protocol.errors import ClientInputError, InternalTokenError, Uid2Error
from uid2.protocol.ids import (
    EpochMillis,
    EpochSeconds,
    IdentityScope,
    IdentityType,
    KeyId,
    KeysetId,
    RawUid,
    SiteId,
    TokenVersion,
)
from uid2.protocol.keysets import KeyRing, KeysetKey
from uid2.protocol.secret import Secret
from uid2.protocol.tokens.advertising import (
    AdvertisingToken,
    decode_advertising_token,
    encode_advertising_token,
    open_advertising_token,
    read_advertising_token,
)
from uid2.protocol.tokens.fields import UNKNOWN_OPERATOR, OperatorIdentity, PublisherIdentity

VECTORS = json.loads((Path(__file__).parents[3] / "vectors/tokens.json").read_text())


def _key(members: dict[str, Any]) -> KeysetKey:
    secret = decode_base64(members["secret"])
    start, end = EpochSeconds(members["activates"]), EpochSeconds(members["expires"])
    return KeysetKey(
        KeyId(members["id"]), KeysetId(members["keyset_id"]), start, start, end, Secret(secret), GcmKey(secret)
    )


KEYS = {key.id: key for key in (_key(value) for value in VECTORS["keys"].values() if isinstance(value, dict))}
RING = KeyRing((), KEYS.values())
MASTER, SITE = KEYS[KeyId(101)], KEYS[KeyId(104)]
NOW = EpochMillis(1_733_800_000_123)
TOKEN = AdvertisingToken(
    scope=IdentityScope.UID2,
    identity_type=IdentityType.EMAIL,
    expires=EpochMillis(NOW + 1),
    created=NOW,
    publisher=PublisherIdentity(SiteId(123)),
    privacy_bits=1,
    established=NOW,
    refreshed=NOW,
    raw_uid=RawUid(bytes(32)),
    master_key_id=MASTER.id,
    site_key_id=SITE.id,
)


def _encode(token: AdvertisingToken, version: TokenVersion = TokenVersion.V4) -> str:
    size = 16 if version is TokenVersion.V2 else 12
    return encode_advertising_token(token, MASTER, SITE, bytes(size), bytes(size), version)


@pytest.mark.parametrize(
    "vector",
    VECTORS["advertising_tokens"]["vectors"],
    ids=lambda vector: "-".join((vector["version"], vector["scope"], vector["type"], vector["raw_uid_version"])),
)
def test_vector(vector: dict[str, Any]) -> None:
    token = decode_advertising_token(vector["token"], RING)
    legacy = vector["version"] == "V2"
    unmarked = legacy or len(token.raw_uid) == 32
    assert token.raw_uid.hex() == vector["raw_uid_hex"]
    assert token.scope.name == ("UID2" if unmarked else vector["scope"])
    assert token.identity_type.name == ("EMAIL" if unmarked else vector["type"].upper())
    assert token.version is TokenVersion[vector["version"]]
    assert token.publisher == PublisherIdentity(**vector["publisher"])
    assert token.privacy_bits == vector["privacy_bits"]
    assert (token.established, token.expires) == (vector["established_ms"], vector["expires_ms"])
    assert (token.master_key_id, token.site_key_id) == (vector["master_key_id"], vector["site_key_id"])
    if not legacy:
        operator = vector["operator"]
        assert (token.created, token.refreshed) == (vector["created_ms"], vector["refreshed_ms"])
        assert token.operator == OperatorIdentity(
            operator["site_id"], operator["operator_type"], operator["operator_version"], operator["operator_key_id"]
        )
    again = encode_advertising_token(
        replace(token, scope=IdentityScope[vector["scope"]], identity_type=IdentityType[vector["type"].upper()]),
        KEYS[token.master_key_id],
        KEYS[token.site_key_id],
        bytes.fromhex(vector["site_iv_hex"]),
        bytes.fromhex(vector["master_iv_hex"]),
        token.version,
    )
    assert again == vector["token"]
    assert len(again) == vector["token_text_length"]


@pytest.mark.parametrize(
    "vector", VECTORS["malformed_advertising_tokens"]["vectors"], ids=lambda vector: vector["name"]
)
def test_malformed_vector(vector: dict[str, Any]) -> None:
    kind, _, text = vector["outcome"].partition(": ")
    with pytest.raises(ClientInputError if kind == "ClientInput" else InternalTokenError) as caught:
        decode_advertising_token(vector["token"], RING)
    # These two outcomes name the platform's own failure; ours say what is wrong.
    ours = {
        "unknown_master_key": "Failed to fetch key with id: 9999",
        "v4_bytes_in_standard_base64_alphabet": "Advertising token is not valid base64",
    }
    assert caught.value.message == ours.get(vector["name"], text)


@given(
    st.sampled_from((TokenVersion.V3, TokenVersion.V4)),
    st.sampled_from(IdentityScope),
    st.sampled_from(IdentityType),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_round_trip(
    version: TokenVersion, scope: IdentityScope, identity_type: IdentityType, time: int, number: int, uid: bytes
) -> None:
    token = replace(
        TOKEN,
        scope=scope,
        identity_type=identity_type,
        expires=EpochMillis(time),
        privacy_bits=number,
        publisher=PublisherIdentity(SiteId(number), time, number),
        raw_uid=RawUid(bytes((scope << 4 | identity_type << 2,)) + uid),
        version=version,
    )
    assert decode_advertising_token(_encode(token, version), RING) == token


@pytest.mark.parametrize("version", TokenVersion)
def test_every_truncation_and_bit_flip_is_refused(version: TokenVersion) -> None:
    token = replace(TOKEN, raw_uid=RawUid(bytes(33)))
    text = _encode(token, version).rstrip("=")
    for size in range(len(text)):
        with pytest.raises(Uid2Error):
            decode_advertising_token(text[:size], RING)
    if version is TokenVersion.V2:
        return  # not authenticated
    url = version is TokenVersion.V4
    data = decode_base64url(text) if url else decode_base64(text)
    for bit in range(len(data) * 8):
        if bit in (0, 1, 2, 6, 7):
            continue  # bits of the header without a meaning
        damaged = bytearray(data)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(Uid2Error):
            decode_advertising_token(encode_base64url(damaged) if url else encode_base64(damaged), RING)


def _resealed(site_plaintext: bytes, master_tail: bytes | None = None) -> str:
    blob = SITE.gcm.seal(bytes(12), site_plaintext)
    master = bytes(16) + b"\0\0\0\0\x05" + bytes(8) + SITE.id.to_bytes(4, "big") + blob
    sealed = MASTER.gcm.seal(bytes(12), master if master_tail is None else master_tail)
    return encode_base64url(b"\x03\x80" + MASTER.id.to_bytes(4, "big") + sealed)


@pytest.mark.parametrize("size", range(37))
def test_short_contents_are_internal_errors(size: int) -> None:
    with pytest.raises(InternalTokenError):
        decode_advertising_token(_resealed(bytes(size)), RING)
    with pytest.raises(InternalTokenError):
        decode_advertising_token(_resealed(b"", bytes(size)), RING)


def test_unknown_operator_type_and_identity_type() -> None:
    assert decode_advertising_token(_resealed(bytes(68)), RING).operator.operator_type == UNKNOWN_OPERATOR
    with pytest.raises(ClientInputError, match=r"^Invalid valid for IdentityType: 2$"):
        decode_advertising_token(_resealed(bytes(36) + b"\x08" + bytes(32)), RING)


@pytest.mark.parametrize("text", ["", "A4", "****", "é" * 200, "Ag==", "AA==", "A4AA", "AgAA"])
def test_odd_texts_are_errors_of_ours(text: str) -> None:
    with pytest.raises(Uid2Error):
        decode_advertising_token(text, RING)


def test_keys_may_come_from_a_mapping() -> None:
    assert open_advertising_token(_encode(TOKEN), KEYS.get) == TOKEN
    with pytest.raises(InternalTokenError, match=r"^Failed to fetch key with id: 101$"):
        open_advertising_token(_encode(TOKEN), {}.get)


@pytest.mark.parametrize("vector", VECTORS["sharing_tokens"]["vectors"], ids=lambda v: v["raw_uid_version"])
def test_sharing_tokens_of_clients(vector: dict[str, Any]) -> None:
    padded = vector["token"].replace("-", "+").replace("_", "/")
    padded += "=" * (-len(padded) % 4)
    for text in (vector["token"], padded):
        token = read_advertising_token(text, KEYS.get)
        assert encode_base64(token.raw_uid) == vector["raw_uid_b64"]
        assert token.identity_type.name == vector["token_header_type"].upper()
        assert (token.expires, token.created) == (vector["expires_ms"], vector["generated_ms"])
        assert (token.publisher.site_id, token.privacy_bits) == (vector["site_id"], vector["privacy_bits"])


def test_clients_read_older_versions_as_the_operator_does() -> None:
    for version in (TokenVersion.V2, TokenVersion.V3):
        text = _encode(TOKEN, version)
        assert read_advertising_token(text, KEYS.get) == open_advertising_token(text, KEYS.get)
