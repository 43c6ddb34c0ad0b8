"""Advertising tokens (tokens chapter, section 9). Version 4 is what operators emit; 2 and 3 are still read.

Versions 3 and 4 have the same bytes but for the version; 3 is standard base64, 4 base64url without padding:

    token    0        1         2               6
             ├ header ┼ version ┼ master key id ┼ GCM under the master key ┤
    master   0         8         16         29            33
             ├ expires ┼ created ┼ operator ┼ site key id ┼ GCM under the site key ┤
    site     0           16             20            28          36
             ├ publisher ┼ privacy bits ┼ established ┼ refreshed ┼ raw UID (32 or 33) ┤

Version 2, standard base64 (the site part is drawn in `legacy`):

    token    0     1               5
             ├ 2 ┼ master key id ┼ CBC under the master key ┤
    master   0         8             12
             ├ expires ┼ site key id ┼ CBC under the site key ┤
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from uid2.protocol.crypto import cbc
from uid2.protocol.encoding import decode_base64, decode_base64url, encode_base64, encode_base64url
from uid2.protocol.errors import ClientInputError, InternalTokenError, Uid2Error
from uid2.protocol.identity import V2_LENGTH, scope_of, type_of
from uid2.protocol.ids import EpochMillis, IdentityScope, IdentityType, KeyId, RawUid, TokenVersion
from uid2.protocol.keysets import KeyRing, KeysetKey
from uid2.protocol.tokens.fields import (
    I32,
    NO_KEY,
    OPERATOR_LENGTH,
    PUBLISHER_LENGTH,
    SERVICE,
    KeyLookup,
    OperatorIdentity,
    PublisherIdentity,
    header_byte,
    unpack,
)
from uid2.protocol.tokens.legacy import LegacyIdentity

_OUTER: Final = Struct(">BBi")
_LIFE: Final = Struct(">qq")
_USER: Final = Struct(">iqq")
_LEGACY_OUTER: Final = Struct(">Bi")
_LEGACY_MASTER: Final = Struct(">qi")

_SITE_KEY_AT: Final = _LIFE.size + OPERATOR_LENGTH
_SITE_BLOB_AT: Final = _SITE_KEY_AT + I32.size
_RAW_UID_AT: Final = PUBLISHER_LENGTH + _USER.size


@dataclass(frozen=True, slots=True)
class AdvertisingToken:
    """What a token says. `version` and the key ids are results of decoding; encoding takes its own arguments.

    A version 2 token has neither `created` (given as `established`) nor `refreshed` (None), and names no type or
    scope: it reads as a UID2 e-mail.
    """

    scope: IdentityScope
    identity_type: IdentityType
    expires: EpochMillis
    created: EpochMillis
    publisher: PublisherIdentity
    privacy_bits: int
    established: EpochMillis
    refreshed: EpochMillis | None
    raw_uid: RawUid
    operator: OperatorIdentity = SERVICE
    version: TokenVersion = TokenVersion.V4
    master_key_id: KeyId = NO_KEY
    site_key_id: KeyId = NO_KEY


def encode_advertising_token(
    token: AdvertisingToken,
    master: KeysetKey,
    site: KeysetKey,
    site_iv: bytes,
    master_iv: bytes,
    version: TokenVersion = TokenVersion.V4,
) -> str:
    """The token's text. IVs: 12 bytes, for version 2 16."""
    if version is TokenVersion.V2:
        return encode_base64(_legacy_bytes(token, master, site, site_iv, master_iv))
    refreshed = token.created if token.refreshed is None else token.refreshed
    user = _USER.pack(token.privacy_bits, token.established, refreshed)
    site_blob = site.gcm.seal(site_iv, token.publisher.encode() + user + token.raw_uid)
    master_plaintext = (
        _LIFE.pack(token.expires, token.created) + token.operator.encode() + I32.pack(site.id) + site_blob
    )
    outer = _OUTER.pack(header_byte(token.scope, token.identity_type), version, master.id)
    data = outer + master.gcm.seal(master_iv, master_plaintext)
    return encode_base64url(data) if version is TokenVersion.V4 else encode_base64(data)


def decode_advertising_token(text: str, key_ring: KeyRing) -> AdvertisingToken:
    """The token under the keys of the ring; errors as `open_advertising_token`."""
    return open_advertising_token(text, key_ring.key)


def open_advertising_token(text: str, find_key: KeyLookup) -> AdvertisingToken:
    """The token, with keys found by id. Neither its expiry nor the lifetimes of the keys are looked at.

    ClientInputError: too short, unknown version, header against identity. InternalTokenError: all else (9.4).
    """
    if len(text) < 4:
        raise ClientInputError("Advertising token is too short")
    url_alphabet = "-" in text[:4] or "_" in text[:4]
    head = _decoded(text[:4], url_alphabet)
    if head[0] == TokenVersion.V2:
        return _open_legacy(text, find_key)
    if len(head) < 2:
        raise InternalTokenError("token data is too short")
    if head[1] == TokenVersion.V3:
        return _open_current(_decoded(text, url_alphabet=False), TokenVersion.V3, find_key)
    if head[1] == TokenVersion.V4:
        return _open_current(_decoded(text, url_alphabet=True), TokenVersion.V4, find_key)
    raise ClientInputError("Invalid advertising token version")


def read_advertising_token(text: str, find_key: KeyLookup) -> AdvertisingToken:
    """The token as client libraries read it (14.1): version 4 in either alphabet, scope and type from the header alone.

    Sharing tokens made by clients may name another type than their raw UID does. Errors as `open_advertising_token`.
    """
    if len(text) >= 4 and text[1] == "4":
        return _open_current(_decoded(_as_url(text), url_alphabet=True), TokenVersion.V4, find_key, compare=False)
    if len(text) >= 4 and text[1] == "3":
        return _open_current(_decoded(text, url_alphabet=False), TokenVersion.V3, find_key, compare=False)
    return open_advertising_token(text, find_key)


def _as_url(text: str) -> str:
    return text.replace("+", "-").replace("/", "_")


def _open_current(data: bytes, version: TokenVersion, find_key: KeyLookup, *, compare: bool = True) -> AdvertisingToken:
    header, _, master_key_id = unpack(_OUTER, data, 0)
    master = _key(find_key, master_key_id).gcm.open(data[_OUTER.size :])
    expires, created = unpack(_LIFE, master, 0)
    operator = OperatorIdentity.decode(master, _LIFE.size)
    (site_key_id,) = unpack(I32, master, _SITE_KEY_AT)
    site = _key(find_key, site_key_id).gcm.open(master[_SITE_BLOB_AT:])
    publisher = PublisherIdentity.decode(site, 0)
    privacy_bits, established, refreshed = unpack(_USER, site, PUBLISHER_LENGTH)
    raw_uid = RawUid(site[_RAW_UID_AT:])
    scope, identity_type = _checked_identity(header, raw_uid) if compare else (scope_of(header), type_of(header))
    return AdvertisingToken(
        scope=scope,
        identity_type=identity_type,
        expires=EpochMillis(expires),
        created=EpochMillis(created),
        publisher=publisher,
        privacy_bits=privacy_bits,
        established=EpochMillis(established),
        refreshed=EpochMillis(refreshed),
        raw_uid=raw_uid,
        operator=operator,
        version=version,
        master_key_id=KeyId(master_key_id),
        site_key_id=KeyId(site_key_id),
    )


def _checked_identity(header: int, raw_uid: RawUid) -> tuple[IdentityScope, IdentityType]:
    if len(raw_uid) == V2_LENGTH:
        return IdentityScope.UID2, IdentityType.EMAIL
    if not raw_uid:
        raise InternalTokenError("token data is too short")
    scope, identity_type = scope_of(raw_uid[0]), type_of(raw_uid[0])
    if scope != scope_of(header):
        raise ClientInputError("Failed decoding advertisingTokenV3: Identity scope mismatch")
    if identity_type != type_of(header):
        raise ClientInputError("Failed decoding advertisingTokenV3: Identity type mismatch")
    return scope, identity_type


def _open_legacy(text: str, find_key: KeyLookup) -> AdvertisingToken:
    try:
        data = decode_base64(text)
        _, master_key_id = unpack(_LEGACY_OUTER, data, 0)
        master = cbc.decrypt(_key(find_key, master_key_id).secret.reveal(), data[_LEGACY_OUTER.size :])
        expires, site_key_id = unpack(_LEGACY_MASTER, master, 0)
        site = cbc.decrypt(_key(find_key, site_key_id).secret.reveal(), master[_LEGACY_MASTER.size :])
        identity = LegacyIdentity.decode(site)
        raw_uid = RawUid(decode_base64(identity.id_text))
    except (ValueError, Uid2Error):
        raise InternalTokenError("Couldn't decode advertisingTokenV2") from None
    return AdvertisingToken(
        scope=IdentityScope.UID2,
        identity_type=IdentityType.EMAIL,
        expires=EpochMillis(expires),
        created=identity.established,
        publisher=PublisherIdentity(identity.site_id),
        privacy_bits=identity.privacy_bits,
        established=identity.established,
        refreshed=None,
        raw_uid=raw_uid,
        operator=OperatorIdentity(key_id=KeyId(master_key_id)),
        version=TokenVersion.V2,
        master_key_id=KeyId(master_key_id),
        site_key_id=KeyId(site_key_id),
    )


def _legacy_bytes(
    token: AdvertisingToken, master: KeysetKey, site: KeysetKey, site_iv: bytes, master_iv: bytes
) -> bytes:
    identity = LegacyIdentity(
        token.publisher.site_id, encode_base64(token.raw_uid).encode(), token.privacy_bits, token.established
    )
    site_blob = cbc.encrypt(site.secret.reveal(), site_iv, identity.encode())
    master_plaintext = _LEGACY_MASTER.pack(token.expires, site.id) + site_blob
    outer = _LEGACY_OUTER.pack(TokenVersion.V2, master.id)
    return outer + cbc.encrypt(master.secret.reveal(), master_iv, master_plaintext)


def _key(find_key: KeyLookup, key_id: int) -> KeysetKey:
    key = find_key(KeyId(key_id))
    if key is None:
        raise InternalTokenError(f"Failed to fetch key with id: {key_id}")
    return key


def _decoded(text: str, url_alphabet: bool) -> bytes:
    try:
        return decode_base64url(text) if url_alphabet else decode_base64(text)
    except ValueError:
        raise InternalTokenError("Advertising token is not valid base64") from None
