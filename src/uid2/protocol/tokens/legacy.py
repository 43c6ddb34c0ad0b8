"""The innermost part of version 2 tokens (tokens chapter, 9.2 and 10.3).

0         4            8         8 + L           12 + L        20 + L
├ site id ┼ L, of text ┼ id text ┼ privacy bits ┼ established ┤
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from uid2.protocol.errors import InternalTokenError
from uid2.protocol.ids import EpochMillis, SiteId
from uid2.protocol.tokens.fields import unpack

_HEAD: Final = Struct(">ii")
_TAIL: Final = Struct(">iq")


@dataclass(frozen=True, slots=True)
class LegacyIdentity:
    """`id_text` is the base64 text of a raw UID or first-level hash, as it stands in the token."""

    site_id: SiteId
    id_text: bytes
    privacy_bits: int
    established: EpochMillis

    def encode(self) -> bytes:
        head = _HEAD.pack(self.site_id, len(self.id_text))
        return head + self.id_text + _TAIL.pack(self.privacy_bits, self.established)

    @classmethod
    def decode(cls, data: bytes) -> "LegacyIdentity":
        """InternalTokenError when the data is shorter than its fields."""
        site, length = unpack(_HEAD, data, 0)
        if length < 0:
            raise InternalTokenError("token data has a negative length")
        end = _HEAD.size + length
        privacy_bits, established = unpack(_TAIL, data, end)
        return cls(SiteId(site), data[_HEAD.size : end], privacy_bits, EpochMillis(established))
