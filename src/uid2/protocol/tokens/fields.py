"""Groups of fields that the token layouts share (tokens chapter, section 8).

Operator identity, 13 bytes                      Publisher identity, 16 bytes
0         4       5          9        13         0         4              12              16
├ site id ┼ type ┼ version ┼ key id ┤            ├ site id ┼ publisher id ┼ client key id ┤

Header byte of V3 and V4: bit 4 scope, bits 3-2 identity type, bits 1-0 set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from uid2.protocol.errors import InternalTokenError
from uid2.protocol.ids import IdentityScope, IdentityType, KeyId, SiteId
from uid2.protocol.keysets import KeysetKey

OPERATOR_LENGTH: Final = 13
PUBLISHER_LENGTH: Final = 16
SERVICE_OPERATOR: Final = 1
SNOWFLAKE_OPERATOR: Final = 17
UNKNOWN_OPERATOR: Final = -1
NO_KEY: Final = KeyId(0)
NO_SITE: Final = SiteId(0)

I32: Final = Struct(">i")
_OPERATOR: Final = Struct(">ibii")
_PUBLISHER: Final = Struct(">iqi")

KeyLookup = Callable[[KeyId], KeysetKey | None]
"""Finds a key by its id, whatever its keyset and lifetime: `ring.key`, or `mapping.get`."""


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    site_id: SiteId = NO_SITE
    operator_type: int = SERVICE_OPERATOR
    version: int = 0
    key_id: KeyId = NO_KEY

    def encode(self) -> bytes:
        return _OPERATOR.pack(self.site_id, self.operator_type, self.version, self.key_id)

    @classmethod
    def decode(cls, data: bytes, offset: int) -> "OperatorIdentity":
        site, kind, version, key = unpack(_OPERATOR, data, offset)
        known = kind if kind in (SERVICE_OPERATOR, SNOWFLAKE_OPERATOR) else UNKNOWN_OPERATOR
        return cls(SiteId(site), known, version, KeyId(key))


@dataclass(frozen=True, slots=True)
class PublisherIdentity:
    site_id: SiteId
    publisher_id: int = 0
    client_key_id: int = 0

    def encode(self) -> bytes:
        return _PUBLISHER.pack(self.site_id, self.publisher_id, self.client_key_id)

    @classmethod
    def decode(cls, data: bytes, offset: int) -> "PublisherIdentity":
        site, publisher, client_key = unpack(_PUBLISHER, data, offset)
        return cls(SiteId(site), publisher, client_key)


SERVICE: Final = OperatorIdentity()


def header_byte(scope: IdentityScope, identity_type: IdentityType) -> int:
    return scope << 4 | identity_type << 2 | 3


def unpack(layout: Struct, data: bytes, offset: int) -> tuple[int, ...]:
    """The fields at the offset; InternalTokenError when the data ends before them."""
    if offset < 0 or len(data) < offset + layout.size:
        raise InternalTokenError("token data is too short")
    return layout.unpack_from(data, offset)
