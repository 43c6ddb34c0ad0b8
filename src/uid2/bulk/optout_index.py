"""Opt-outs as packed rows with look-ups by identity hash and by raw UID.

    header   32   magic 8, rows u64, environment u8, pad 15
    rows     40 each, ascending by hash prefix, then id:
                  hash prefix 16, id key 16, seconds u56, metadata 1
    by id     4 each: row numbers u32, ascending by (metadata, id key)

44 bytes an entry. The id key is the first half of a 32-byte raw UID and the bytes 16 to 31 of a 33-byte one, which in
version 4 are the encrypted ones; the metadata byte is that of the log entry (opt-out chapter, 3.1), so length and first
byte take part in the comparison. All integers are little-endian.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, FirstLevelHash
from uid2.protocol.optout_log import ENTRY_LENGTH, NULL_HASH, ONES_HASH, advertising_id_prefix, check_size

MAGIC: Final = b"uid2opt1"
HEADER_LENGTH: Final = 32
ROW: Final = 40
_LEADING: Final = struct.Struct(">Q")
_GUESSES: Final = 6
_NEAR: Final = 4
_STEPS: Final = 24
_CHUNK: Final = ENTRY_LENGTH * 8192
LONG_ID: Final = 0x40
ALWAYS: Final = (1 << 56) - 1


def build_optout_index(
    files: Sequence[Path], out_path: Path, environment: Environment, indices: Sequence["OptOutIndex"] = ()
) -> int:
    """Write the index of all entries of the log files and all rows of the indices; returns the number of rows.

    Special entries are left out. StoreFormatError names a file whose size is no multiple of 72.
    """
    rows = [row for index in indices for row in _split(index.rows)]
    for file in files:
        try:
            check_size(file.stat().st_size)
        except StoreFormatError as error:
            raise error.in_file(file.name) from None
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                rows.extend(_rows_of(chunk))
    distinct = _distinct(rows)
    out_path.write_bytes(_assemble(distinct, environment))
    return len(distinct)


def pack_optout_rows(rows: bytes, environment: Environment) -> bytes:
    """The index of rows of 40 bytes in any order."""
    return _assemble(_distinct(list(_split(rows))), environment)


def empty_index(environment: Environment) -> "OptOutIndex":
    """An index without entries."""
    return OptOutIndex(_assemble([], environment))


class OptOutIndex:
    """The look-ups. The buffer is validated once and must not change afterwards."""

    def __init__(self, buffer: bytes | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if len(view) < HEADER_LENGTH or bytes(view[:8]) != MAGIC:
            raise StoreFormatError("not a packed opt-out index", next_step="load the opt-outs again")
        self.size = int.from_bytes(view[8:16], "little")
        if len(view) != HEADER_LENGTH + self.size * (ROW + 4):
            raise StoreFormatError("the packed opt-out index is cut short", next_step="load the opt-outs again")
        try:
            self.environment = Environment(view[16])
        except ValueError:
            raise StoreFormatError("the packed opt-out index names no environment") from None
        self.buffer = view
        # What another engine keeps with the index.
        self.handle: object | None = None
        self._by_id = HEADER_LENGTH + self.size * ROW

    @classmethod
    def of_rows(cls, rows: bytes, environment: Environment) -> "OptOutIndex":
        """The index of rows of 40 bytes in any order."""
        return cls(pack_optout_rows(rows, environment))

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        """Epoch seconds of the latest opt-out of a first-level hash; 0 when there is none."""
        if flh == NULL_HASH:
            return ALWAYS
        if flh == ONES_HASH:
            return 0
        size, leading_of, buffer = self.size, _LEADING.unpack_from, self.buffer
        (leading,) = leading_of(flh)
        latest = 0
        for row in range(self._first(leading), size):
            if leading_of(buffer, HEADER_LENGTH + row * ROW)[0] != leading:
                break
            data = self._row(row)
            if data[:16] == flh[:16]:
                latest = max(latest, int.from_bytes(data[32:39], "little"))
        return latest

    def missing_rows(self, rows: bytes | memoryview, tolerance: int) -> bytes:
        """Those of the rows of 40 bytes for whose hash and id this index has no time from theirs less
        `tolerance` seconds on."""
        return b"".join(row for row in _split(rows) if not self._covers(row, tolerance))

    def _covers(self, row: bytes, tolerance: int) -> bool:
        prefix, id_and_metadata = row[:16], (row[16:32], row[39])
        enough = int.from_bytes(row[32:39], "little") - tolerance
        for place in range(self._first(_LEADING.unpack_from(row)[0]), self.size):
            held = self._row(place)
            if held[:16] > prefix:
                break
            same = held[:16] == prefix and (held[16:32], held[39]) == id_and_metadata
            if same and int.from_bytes(held[32:39], "little") >= enough:
                return True
        return False

    def timestamp_of_id(self, raw_uid: str) -> int | None:
        """Epoch seconds of the earliest opt-out recorded with a raw UID (canonical base64), None when there is none."""
        data = canonical_raw_uid(raw_uid)
        metadata = None if data is None else metadata_of_id(data, self.environment)
        if data is None or metadata is None:
            return None
        wanted = bytes((metadata,)) + id_key(data)
        first = bisect_left(range(self.size), wanted, key=lambda place: self._id_of(place)[0])
        earliest: int | None = None
        for place in range(first, self.size):
            key, seconds = self._id_of(place)
            if key != wanted:
                break
            earliest = seconds if earliest is None else min(earliest, seconds)
        return earliest

    def _first(self, leading: int) -> int:
        """The first row whose leading bytes are not below those of a hash, given as a number."""
        size, buffer, leading_of = self.size, self.buffer, _LEADING.unpack_from
        if not size:
            return 0
        # Hashes are evenly spread: a few steps lead to within some rows, the rest is walked.
        row = leading * size >> 64
        for _ in range(_GUESSES):
            distance = (leading - leading_of(buffer, HEADER_LENGTH + row * ROW)[0]) * size >> 64
            row += distance
            if row < 0:
                row = 0
            elif row >= size:
                row = size - 1
            if -_NEAR < distance < _NEAR:
                break
        if leading_of(buffer, HEADER_LENGTH + row * ROW)[0] < leading:
            for after in range(row + 1, min(row + _STEPS, size)):
                if leading_of(buffer, HEADER_LENGTH + after * ROW)[0] >= leading:
                    return after
        else:
            for after in range(row, max(row - _STEPS, 0), -1):
                if leading_of(buffer, HEADER_LENGTH + after * ROW - ROW)[0] < leading:
                    return after
        return bisect_left(range(size), leading, key=lambda row: leading_of(buffer, HEADER_LENGTH + row * ROW)[0])

    def timestamps_of_hashes(self, hashes: Sequence[FirstLevelHash]) -> list[int]:
        """`timestamp_of_hash` of each."""
        return list(map(self.timestamp_of_hash, hashes))

    def timestamps_of_ids(self, raw_uids: Sequence[str]) -> list[int | None]:
        """`timestamp_of_id` of each."""
        return list(map(self.timestamp_of_id, raw_uids))

    def hashes_before(self, seconds: int) -> int:
        """How many hashes have an entry before a time in epoch seconds; takes a pass over all rows."""
        before, last = 0, None
        for number in range(self.size):
            row = self._row(number)
            if int.from_bytes(row[32:39], "little") < seconds and row[:16] != last:
                before, last = before + 1, row[:16]
        return before

    @property
    def rows(self) -> memoryview:
        """All rows, 40 bytes each."""
        return self.buffer[HEADER_LENGTH : self._by_id]

    def _row(self, number: int) -> bytes:
        at = HEADER_LENGTH + number * ROW
        return bytes(self.buffer[at : at + ROW])

    def _id_of(self, place: int) -> tuple[bytes, int]:
        at = self._by_id + place * 4
        row = int.from_bytes(self.buffer[at : at + 4], "little")
        if row >= self.size:
            raise StoreFormatError("the packed opt-out index is damaged", next_step="load the opt-outs again")
        data = self._row(row)
        return data[39:40] + data[16:32], int.from_bytes(data[32:39], "little")


def canonical_raw_uid(text: str) -> bytes | None:
    """The bytes of a raw UID written as the operator writes it, else None."""
    if len(text) != 44:
        return None
    try:
        data = decode_base64(text)
    except ValueError:
        return None
    return data if len(data) in (32, 33) and encode_base64(data) == text else None


def id_key(raw_uid: bytes) -> bytes:
    """The 16 bytes by which a raw UID is found."""
    return raw_uid[:16] if len(raw_uid) == 32 else raw_uid[16:32]


def metadata_of_id(raw_uid: bytes, environment: Environment) -> int | None:
    """The metadata byte under which the log keeps a raw UID; None when it cannot come from this deployment's log."""
    if len(raw_uid) == 32:
        return 0
    metadata = raw_uid[0] | LONG_ID
    return metadata if advertising_id_prefix(metadata, environment) == raw_uid[:1] else None


def row_of(identity_hash: bytes, raw_uid: bytes, seconds: int) -> bytes:
    """The row of an opt-out whose raw UID this deployment writes (`metadata_of_id`)."""
    metadata = 0 if len(raw_uid) == 32 else raw_uid[0] | LONG_ID
    return identity_hash[:16] + id_key(raw_uid) + seconds.to_bytes(7, "little") + bytes((metadata,))


def _split(rows: bytes | memoryview) -> Iterator[bytes]:
    return (bytes(rows[at : at + ROW]) for at in range(0, len(rows), ROW))


def _distinct(rows: list[bytes]) -> list[bytes]:
    rows.sort()
    return [row for row, _ in groupby(rows)]


def _rows_of(chunk: bytes) -> Iterable[bytes]:
    for at in range(0, len(chunk), ENTRY_LENGTH):
        entry = chunk[at : at + ENTRY_LENGTH]
        if entry[:32] in (NULL_HASH, ONES_HASH):
            continue
        key = entry[32:48] if entry[71] >> 6 == 0 else entry[47:63]
        yield entry[:16] + key + entry[64:72]


def _assemble(rows: list[bytes], environment: Environment) -> bytes:
    header = (MAGIC + len(rows).to_bytes(8, "little") + bytes((environment,))).ljust(HEADER_LENGTH, b"\0")
    order = sorted(range(len(rows)), key=lambda row: rows[row][39:40] + rows[row][16:32])
    return header + b"".join(rows) + b"".join(row.to_bytes(4, "little") for row in order)
