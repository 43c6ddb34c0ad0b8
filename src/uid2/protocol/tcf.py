"""Consent strings of the Transparency and Consent Framework, version 2: the core segment (operator chapter, 8.2.1).

Bit fields, most significant first: the version in the first six, purpose consents at 152 (24 bits), purposes by
legitimate interest at 176 (24 bits), then from bit 213 two vendor sections (consents, legitimate interests). A vendor
section is the largest id (16), an encoding bit, and either one bit per vendor or a count (12) of entries: a range bit,
the first id (16) and for a range the last id (16).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from uid2.protocol.encoding import decode_base64url

_VERSION: Final = 2
_VERSION_BITS: Final = 6
_PURPOSES_AT: Final = 152
_PURPOSE_COUNT: Final = 24
_VENDORS_AT: Final = 213


@dataclass(frozen=True, slots=True)
class VendorSet:
    """Vendor ids as inclusive ranges: a few bytes may name millions of ids, so they are never listed."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, vendor_id: int) -> bool:
        return any(first <= vendor_id <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class ConsentString:
    """What the core segment allows to whom."""

    purpose_consents: frozenset[int]
    purpose_interests: frozenset[int]
    vendor_consents: VendorSet
    vendor_interests: VendorSet

    def permits(self, vendor_id: int, purposes: Collection[int]) -> bool:
        """Whether consent and legitimate interest together cover the purposes for the vendor."""
        granted: frozenset[int] = frozenset()
        if vendor_id in self.vendor_consents:
            granted |= self.purpose_consents
        if vendor_id in self.vendor_interests:
            granted |= self.purpose_interests
        return granted.issuperset(purposes)


class _Bits:
    """Reads big-endian bit fields; ValueError beyond the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def seek(self, bit: int) -> None:
        self._at = bit

    def take(self, width: int) -> int:
        # Only the bytes of the field are made a number: the text may be far longer than what it is read for.
        end = self._at + width
        if end > len(self._data) * 8:
            raise ValueError("the consent string is too short")
        whole = int.from_bytes(self._data[self._at // 8 : (end + 7) // 8], "big")
        self._at = end
        return whole >> (-end % 8) & ((1 << width) - 1)


def decode_consent(text: str) -> ConsentString:
    """The core segment of a consent string; ValueError when it is malformed or not of version 2."""
    bits = _Bits(decode_base64url(text.partition(".")[0]))
    if bits.take(_VERSION_BITS) != _VERSION:
        raise ValueError("the consent string is not of version 2")
    bits.seek(_PURPOSES_AT)
    purpose_consents = _members(bits.take(_PURPOSE_COUNT), _PURPOSE_COUNT)
    purpose_interests = _members(bits.take(_PURPOSE_COUNT), _PURPOSE_COUNT)
    bits.seek(_VENDORS_AT)
    vendor_consents = _vendors(bits)
    return ConsentString(frozenset(purpose_consents), frozenset(purpose_interests), vendor_consents, _vendors(bits))


def _vendors(bits: _Bits) -> VendorSet:
    largest = bits.take(16)
    if not bits.take(1):
        return VendorSet(tuple((vendor, vendor) for vendor in _members(bits.take(largest), largest)))
    ranges = []
    for _ in range(bits.take(12)):
        is_range = bits.take(1)
        first = bits.take(16)
        last = bits.take(16) if is_range else first
        if not 0 < first <= last <= largest:
            raise ValueError("the consent string has an impossible vendor range")
        ranges.append((first, last))
    return VendorSet(tuple(ranges))


def _members(field: int, width: int) -> list[int]:
    """The positions, from 1, of the set bits of a field."""
    return [place for place, bit in enumerate(f"{field:0{width}b}", start=1) if bit == "1"] if width else []
