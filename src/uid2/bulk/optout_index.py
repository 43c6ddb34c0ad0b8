"""Opt-outs as packed rows with look-ups by identity hash and by raw UID.

    header   32   magic 8, rows u64, environment u8, pad 15
    rows     40 each, ascending by hash prefix, then id:
                  hash prefix 16, id key 16, seconds u56, metadata 1
    by id     4 each: row numbers u32, ascending by (metadata, id key)

44 bytes an entry. The id key is the first half of a 32-byte raw UID and the bytes 16 to 31 of a 33-byte one, which in
version 4 are the encrypted ones; the metadata byte is that of the log entry (opt-out chapter, 3.1), so length and first
byte take part in the comparison. All integers are little-endian.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
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
_CHUNK: Final = ENTRY_LENGTH * 8192
ALWAYS: Final = (1 << 56) - 1


def build_optout_index(files: Sequence[Path], out_path: Path, environment: Environment) -> int:
    """Write the index of all entries of the log files; returns the number of rows.

    Special entries are left out. StoreFormatError names a file whose size is no multiple of 72.
    """
    rows: list[bytes] = []
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                try:
                    check_size(len(chunk))
                except StoreFormatError as error:
                    raise error.in_file(file.name) from None
                rows.extend(_rows_of(chunk))
    rows.sort()
    distinct = [row for row, _ in groupby(rows)]
    out_path.write_bytes(_assemble(distinct, environment))
    return len(distinct)


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
        self._by_id = HEADER_LENGTH + self.size * ROW

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        """Epoch seconds of the latest opt-out of a first-level hash; 0 when there is none."""
        if flh == NULL_HASH:
            return ALWAYS
        if flh == ONES_HASH:
            return 0
        wanted = bytes(flh[:16])
        first = bisect_left(range(self.size), wanted, key=lambda number: self._row(number)[:16])
        latest = 0
        for number in range(first, self.size):
            row = self._row(number)
            if row[:16] != wanted:
                break
            latest = max(latest, int.from_bytes(row[32:39], "little"))
        return latest

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


class OptOutOverlay:
    """Opt-outs that came after the index was built; immutable, `with_entries` gives the next one."""

    __slots__ = ("by_hash", "by_id")

    def __init__(self, by_hash: dict[bytes, int] | None = None, by_id: dict[bytes, int] | None = None) -> None:
        self.by_hash = by_hash or {}
        self.by_id = by_id or {}

    def with_entries(self, entries: Iterable[tuple[bytes, bytes, int]]) -> "OptOutOverlay":
        """The overlay with (first-level hash, raw UID, epoch seconds) added."""
        by_hash, by_id = dict(self.by_hash), dict(self.by_id)
        for flh, raw_uid, seconds in entries:
            by_hash[flh] = max(seconds, by_hash.get(flh, 0))
            by_id[raw_uid] = min(seconds, by_id.get(raw_uid, seconds))
        return OptOutOverlay(by_hash, by_id)

    def __len__(self) -> int:
        return len(self.by_hash)


class OptOutView:
    """The index with an overlay: what one request sees."""

    __slots__ = ("index", "overlay")

    def __init__(self, index: OptOutIndex, overlay: OptOutOverlay | None = None) -> None:
        self.index = index
        self.overlay = overlay or OptOutOverlay()

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        """Epoch seconds, 0 when there is none."""
        return self.overlay.by_hash.get(bytes(flh)) or self.index.timestamp_of_hash(flh)

    def timestamp_of_id(self, raw_uid: str) -> int | None:
        """Epoch seconds of the earliest record, None when there is none."""
        fresh: int | None = None
        if self.overlay.by_id:
            data = canonical_raw_uid(raw_uid)
            fresh = None if data is None else self.overlay.by_id.get(data)
        known = self.index.timestamp_of_id(raw_uid)
        if fresh is None or known is None:
            return known if fresh is None else fresh
        return min(fresh, known)

    def with_entries(self, entries: Iterable[tuple[bytes, bytes, int]]) -> "OptOutView":
        """The view after these opt-outs as well."""
        return OptOutView(self.index, self.overlay.with_entries(entries))


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
    metadata = raw_uid[0] | 0x40
    return metadata if advertising_id_prefix(metadata, environment) == raw_uid[:1] else None


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
