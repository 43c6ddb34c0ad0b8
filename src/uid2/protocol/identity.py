"""From an identity to its raw UID (tokens chapter, sections 3 and 4)."""

from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ClientInputError, InternalTokenError
from uid2.protocol.ids import (
    Environment,
    EpochMillis,
    FirstLevelHash,
    IdentityHash,
    IdentityScope,
    IdentityType,
    RawUid,
    RawUidVersion,
)
from uid2.protocol.salts import KeyMaterial, SaltBucket

DAY_MS: Final = 86_400_000
PREVIOUS_UID_DAYS: Final = 90
FULL_TABLE: Final = 1 << 20
V2_LENGTH: Final = 32

_V4_FLAG: Final = 0x20


def first_level_hash(identity_hash: IdentityHash, first_level_salt: str) -> FirstLevelHash:
    """`SHA256(base64(identity hash) ‖ salt text)`, 32 bytes."""
    return FirstLevelHash(sha256((encode_base64(identity_hash) + first_level_salt).encode()).digest())


def bucket_index(flh: FirstLevelHash, size: int) -> int:
    """The row of the salt table: 20 bits, whose last four are the low nibble of the third byte."""
    value = flh[0] << 12 | flh[1] << 4 | flh[2] & 0x0F
    return value if size == FULL_TABLE else value % size


def raw_uid(
    flh: FirstLevelHash,
    bucket: SaltBucket,
    scope: IdentityScope,
    identity_type: IdentityType,
    environment: Environment,
    identity_v3: bool,
) -> RawUid:
    """The current raw UID; InternalTokenError when the bucket has neither salt nor key material."""
    if bucket.current_salt:
        return _salted_uid(flh, bucket.current_salt, scope, identity_type, identity_v3)
    if bucket.current_key:
        return _keyed_uid(flh, bucket.current_key, scope, identity_type, environment)
    raise InternalTokenError("the salt bucket has neither a salt nor key material")


def previous_raw_uid(
    flh: FirstLevelHash,
    bucket: SaltBucket,
    scope: IdentityScope,
    identity_type: IdentityType,
    environment: Environment,
    identity_v3: bool,
    as_of: EpochMillis,
) -> RawUid | None:
    """The raw UID before the last rotation, None when that is 90 days ago or there was none (4.6)."""
    # Equal to whole days < 90 for every sign: a bucket updated in the future counts as fresh.
    if as_of - bucket.last_updated >= PREVIOUS_UID_DAYS * DAY_MS:
        return None
    if bucket.previous_salt:
        return _salted_uid(flh, bucket.previous_salt, scope, identity_type, identity_v3)
    material = bucket.previous_key
    if material is None or not material.key or not material.salt:
        return None
    return _keyed_uid(flh, material, scope, identity_type, environment)


def refresh_from(bucket: SaltBucket, as_of: EpochMillis) -> EpochMillis:
    """When the raw UID may change next: the bucket's time, or the next UTC midnight once that has passed (4.7)."""
    if bucket.refresh_from >= as_of:
        return bucket.refresh_from
    return EpochMillis((as_of // DAY_MS + 1) * DAY_MS)


def raw_uid_version(uid: RawUid) -> RawUidVersion:
    """The version by length and flag bit; ClientInputError for a length no version has."""
    if len(uid) == V2_LENGTH:
        return RawUidVersion.V2
    if len(uid) != V2_LENGTH + 1:
        raise ClientInputError(f"a raw UID has 32 or 33 bytes, not {len(uid)}")
    return RawUidVersion.V4 if uid[0] & _V4_FLAG else RawUidVersion.V3


def v4_metadata(scope: IdentityScope, identity_type: IdentityType, environment: Environment) -> int:
    """Bits 7-6 environment, 5 version, 4 scope, 3-2 type."""
    return environment << 6 | _V4_FLAG | scope << 4 | identity_type << 2


def scope_of(first_byte: int) -> IdentityScope:
    """Bit 4 of a header or raw UID byte."""
    return IdentityScope(first_byte >> 4 & 1)


def type_of(first_byte: int) -> IdentityType:
    """Bits 3-2 of a header or raw UID byte; ClientInputError when they name no type."""
    value = first_byte >> 2 & 3
    if value > IdentityType.PHONE:
        raise ClientInputError(f"Invalid valid for IdentityType: {value}")
    return IdentityType(value)


def _salted_uid(
    flh: FirstLevelHash, salt: str, scope: IdentityScope, identity_type: IdentityType, identity_v3: bool
) -> RawUid:
    """V2: `SHA256(base64(flh) ‖ salt text)`; V3: the same after one byte `scope << 4 | type << 2`."""
    digest = sha256((encode_base64(flh) + salt).encode()).digest()
    return RawUid(bytes((scope << 4 | identity_type << 2,)) + digest if identity_v3 else digest)


def _keyed_uid(
    flh: FirstLevelHash,
    material: KeyMaterial,
    scope: IdentityScope,
    identity_type: IdentityType,
    environment: Environment,
) -> RawUid:
    """V4, 33 bytes.

    0          1        4    16           32         33
    ├ metadata ┼ key id ┼ IV ┼ ciphertext ┼ checksum ┤
    """
    if not material.salt:
        raise InternalTokenError("the key material of the salt bucket has no salt")
    half = flh[16:32]
    head = bytes((v4_metadata(scope, identity_type, environment),)) + (material.id & 0xFFFFFF).to_bytes(3, "big")
    iv = sha256(material.salt.encode() + half + head).digest()[:12]
    body = head + iv + _encrypt_block(material.key, iv, half)
    # The XOR of all bytes is the XOR of the two halves, folded down to one byte.
    folded = int.from_bytes(body[:16], "big") ^ int.from_bytes(body[16:], "big")
    for bits in (64, 32, 16, 8):
        folded ^= folded >> bits
    return RawUid(body + bytes((folded & 0xFF,)))


def _encrypt_block(key: str, iv: bytes, block: bytes) -> bytes:
    encryptor = Cipher(_aes(key), CTR(iv + b"\0\0\0\0")).encryptor()
    return encryptor.update(block)


@lru_cache(maxsize=4096)
def _aes(key: str) -> AES:
    # The key is the bytes of the text itself: it looks like base64 but is never decoded.
    try:
        return AES(key.encode())
    except ValueError:
        raise InternalTokenError("the key material of the salt bucket is not an AES key") from None
