"""The marks of a segment that has ended, kept beside it: they spare a start the reading of its records.

0         4          12         20
├ CRC-32 ─┼ size u64 ┼ last u64 ┼ number u64 ┼ mark, 16 bytes ┼ …   little-endian
           of the     highest    one row for each record that has a mark
           segment    number
The CRC-32 is that of everything after it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from uid2.optout.messages import MARK_LENGTH

_SUM: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<QQ")
_ROW: Final = struct.Struct(f"<Q{MARK_LENGTH}s")


@dataclass(frozen=True, slots=True)
class SegmentMarks:
    """`size` in bytes; `numbers` by mark, ascending."""

    size: int
    last: int
    numbers: Mapping[bytes, int]


def encode_marks(marks: SegmentMarks) -> bytes:
    rows = b"".join(_ROW.pack(number, mark) for mark, number in marks.numbers.items())
    rest = _HEAD.pack(marks.size, marks.last) + rows
    return _SUM.pack(crc32(rest)) + rest


def read_marks(data: bytes) -> SegmentMarks | None:
    """None for damaged bytes: the segment itself tells the same."""
    rest = memoryview(data)[_SUM.size :]
    if len(rest) < _HEAD.size or (len(rest) - _HEAD.size) % _ROW.size or crc32(rest) != _SUM.unpack_from(data)[0]:
        return None
    size, last = _HEAD.unpack_from(rest)
    return SegmentMarks(size, last, {mark: number for number, mark in _ROW.iter_unpack(rest[_HEAD.size :])})
