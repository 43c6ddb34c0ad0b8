"""Refresh tokens (tokens chapter, section 10). Version 3 is emitted, 2 is still read; both standard base64.

V3 token      0        1     2                6
              ├ header ┼ 112 ┼ refresh key id ┼ GCM ┤                                     124 bytes
V3 plaintext  0         8         16         29          45             49            57       58    90
              ├ expires ┼ created ┼ operator ┼ publisher ┼ privacy bits ┼ established ┼ header ┼ first-level hash ┤

V2 token      0   1         9         17           25               29
              ├ 2 ┼ created ┼ expires ┼ valid till ┼ refresh key id ┼ CBC ┤              125 bytes
The plaintext of V2 is drawn in `legacy`. Nothing before offset 29 is authenticated.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from uid2.protocol.crypto import cbc
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, InternalTokenError
from uid2.protocol.identity import scope_of, type_of
from uid2.protocol.ids import EpochMillis, FirstLevelHash, IdentityScope, IdentityType, KeyId, TokenVersion
from uid2.protocol.keysets import KeyRing, KeysetKey
from uid2.protocol.tokens.fields import (
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
_USER: Final = Struct(">iqB")
_LEGACY_OUTER: Final = Struct(">Bqqqi")

_USER_AT: Final = _LIFE.size + OPERATOR_LENGTH + PUBLISHER_LENGTH
_HASH_AT: Final = _USER_AT + _USER.size
_HASH_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a token says. `version` and `key_id` are results of decoding."""

    scope: IdentityScope
    identity_type: IdentityType
    expires: EpochMillis
    created: EpochMillis
    publisher: PublisherIdentity
    privacy_bits: int
    established: EpochMillis
    first_level_hash: FirstLevelHash
    operator: OperatorIdentity = SERVICE
    version: TokenVersion = TokenVersion.V3
    key_id: KeyId = NO_KEY


def encode_refresh_token(
    token: RefreshToken, key: KeysetKey, iv: bytes, version: TokenVersion = TokenVersion.V3
) -> str:
    """The token's text, 168 characters; ClientInputError for a version that is never emitted."""
    if version is not TokenVersion.V3:
        raise ClientInputError(f"RefreshToken version {version.name} not supported")
    header = header_byte(token.scope, token.identity_type)
    plaintext = (
        _LIFE.pack(token.expires, token.created)
        + token.operator.encode()
        + token.publisher.encode()
        + _USER.pack(token.privacy_bits, token.established, header)
        + token.first_level_hash
    )
    return encode_base64(_OUTER.pack(header, version, key.id) + key.gcm.seal(iv, plaintext))


def decode_refresh_token(text: str | None, key_ring: KeyRing) -> RefreshToken:
    """The token under the keys of the ring; errors as `open_refresh_token`."""
    return open_refresh_token(text, key_ring.key)


def open_refresh_token(text: str | None, find_key: KeyLookup) -> RefreshToken:
    """The token, with the key found by id. Its expiry is not looked at.

    ClientInputError: absent, not base64, unknown version or key, header against content. InternalTokenError: too
    short or not authentic (10.6 and 15).
    """
    if not text:
        raise ClientInputError("Invalid refresh token version")
    try:
        data = decode_base64(text)
    except ValueError:
        raise ClientInputError("Invalid refresh token") from None
    if len(data) < 2:
        raise InternalTokenError("token data is too short")
    if data[1] == TokenVersion.V3:
        return _open_current(data, find_key)
    if data[0] == TokenVersion.V2:
        return _open_legacy(data, find_key)
    raise ClientInputError("Invalid refresh token version")


def _open_current(data: bytes, find_key: KeyLookup) -> RefreshToken:
    header, _, key_id = unpack(_OUTER, data, 0)
    plaintext = _key(find_key, key_id).gcm.open(data[_OUTER.size :])
    expires, created = unpack(_LIFE, plaintext, 0)
    operator = OperatorIdentity.decode(plaintext, _LIFE.size)
    publisher = PublisherIdentity.decode(plaintext, _LIFE.size + OPERATOR_LENGTH)
    privacy_bits, established, inner_header = unpack(_USER, plaintext, _USER_AT)
    scope, identity_type = scope_of(inner_header), type_of(inner_header)
    if scope != scope_of(header):
        raise ClientInputError("Failed to decode refreshTokenV3: Identity scope mismatch")
    if identity_type != type_of(header):
        raise ClientInputError("Failed to decode refreshTokenV3: Identity type mismatch")
    if len(plaintext) < _HASH_AT + _HASH_LENGTH:
        raise InternalTokenError("token data is too short")
    return RefreshToken(
        scope=scope,
        identity_type=identity_type,
        expires=EpochMillis(expires),
        created=EpochMillis(created),
        publisher=publisher,
        privacy_bits=privacy_bits,
        established=EpochMillis(established),
        first_level_hash=FirstLevelHash(plaintext[_HASH_AT : _HASH_AT + _HASH_LENGTH]),
        operator=operator,
        version=TokenVersion.V3,
        key_id=KeyId(key_id),
    )


def _open_legacy(data: bytes, find_key: KeyLookup) -> RefreshToken:
    _, created, _, valid_till, key_id = unpack(_LEGACY_OUTER, data, 0)
    key = _key(find_key, key_id)
    identity = LegacyIdentity.decode(cbc.decrypt(key.secret.reveal(), data[_LEGACY_OUTER.size :]))
    try:
        flh = FirstLevelHash(decode_base64(identity.id_text))
    except ValueError:
        raise ClientInputError("Failed to decode refreshTokenV2: Identity segment is not valid base64.") from None
    return RefreshToken(
        scope=IdentityScope.UID2,
        identity_type=IdentityType.EMAIL,
        expires=EpochMillis(valid_till),
        created=EpochMillis(created),
        publisher=PublisherIdentity(identity.site_id),
        privacy_bits=identity.privacy_bits,
        established=identity.established,
        first_level_hash=flh,
        operator=OperatorIdentity(key_id=KeyId(key_id)),
        version=TokenVersion.V2,
        key_id=KeyId(key_id),
    )


def _key(find_key: KeyLookup, key_id: int) -> KeysetKey:
    key = find_key(KeyId(key_id))
    if key is None:
        raise ClientInputError(f"Failed to fetch key with id: {key_id}")
    return key
