"""One record of the local queue.

0         4         8            16           24
├ length ─┼ CRC-32 ─┼ number u64 ┼ sent, ms ──┼ message, JSON, `length` bytes ┤   little-endian
           of everything after it
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

_HEAD: Final = struct.Struct("<II")
_PLACE: Final = struct.Struct("<QQ")
HEAD_LENGTH: Final = _HEAD.size + _PLACE.size
LARGEST_MESSAGE: Final = 1 << 20


class Record(NamedTuple):
    number: int
    sent: int
    body: bytes


def encode_record(record: Record) -> bytes:
    """ValueError for a message above 1 MiB."""
    if len(record.body) > LARGEST_MESSAGE:
        raise ValueError("the message is longer than 1 MiB")
    rest = _PLACE.pack(record.number, record.sent) + record.body
    return _HEAD.pack(len(record.body), crc32(rest)) + rest


def read_records(data: bytes | memoryview) -> Iterator[tuple[Record, int]]:
    """The whole records from the start, each with the offset after it; ends at the first that is cut or damaged."""
    view = memoryview(data)
    offset = 0
    while len(view) - offset >= HEAD_LENGTH:
        length, checksum = _HEAD.unpack_from(view, offset)
        end = offset + HEAD_LENGTH + length
        if length > LARGEST_MESSAGE or end > len(view) or crc32(view[offset + _HEAD.size : end]) != checksum:
            return
        number, sent = _PLACE.unpack_from(view, offset + _HEAD.size)
        yield Record(number, sent, bytes(view[offset + HEAD_LENGTH : end])), end
        offset = end
