"""Opt-out files read piece by piece: however large a file is, a piece of it is in memory.

A search for an identity hash bisects partitions, which are sorted, and reads deltas through; a search for an
advertising ID reads everything through, because no file is sorted by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, final

from uid2.optout.bucket import Bucket
from uid2.optout.listing import ListedFile
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import (
    ENTRY_LENGTH,
    HASH_LENGTH,
    OptOutEntry,
    OptOutFileKind,
    decode_entry,
)

PIECE_ENTRIES: Final = 32_768
_TIME: Final = slice(64, 71)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and its place: `number` counts the entries of the file from 0."""

    file: ListedFile
    number: int
    entry: OptOutEntry = field(repr=False)


@final
class EntryFile:
    """One file of the bucket. `entries` counts its whole entries, `torn` the bytes after them."""

    def __init__(self, bucket: Bucket, file: ListedFile) -> None:
        self._bucket = bucket
        self.file = file
        self.size = bucket.size(file.path)
        self.entries, self.torn = divmod(self.size, ENTRY_LENGTH)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Runs of whole entries in order, each with the number of its first entry. StoreUnavailableError."""
        for first in range(0, self.entries, PIECE_ENTRIES):
            count = min(PIECE_ENTRIES, self.entries - first)
            yield first, self._read(first, count)

    def rows(self) -> Iterator[bytes]:
        """The whole entries, 72 bytes each."""
        for _, piece in self.pieces():
            for at in range(0, len(piece), ENTRY_LENGTH):
                yield piece[at : at + ENTRY_LENGTH]

    def with_hash(self, identity_hash: bytes, environment: Environment) -> Iterator[Found]:
        """The entries of an identity hash."""
        if self.file.kind is OptOutFileKind.PARTITION:
            place = self._bisected(identity_hash)
            if place is not None:
                yield from self._run_from(place, identity_hash, environment)
                return
        yield from self._with_bytes(identity_hash, 0, environment)

    def with_id(self, advertising_id: bytes, environment: Environment) -> Iterator[Found]:
        """The entries of an advertising ID of 32 or 33 bytes."""
        for found in self._with_bytes(advertising_id[-HASH_LENGTH:], HASH_LENGTH, environment):
            if found.entry.advertising_id == advertising_id:
                yield found

    def _bisected(self, wanted: bytes) -> int | None:
        """The number of the first entry that is not below `wanted`; None when the file turns out not to be sorted."""
        low, high = 0, self.entries
        least, most = b"", b"\xff" * HASH_LENGTH
        while low < high:
            middle = (low + high) // 2
            found = self._read(middle, 1)[:HASH_LENGTH]
            # What lies outside its neighbours shows that the order cannot be relied on.
            if not least <= found <= most:
                return None
            if found < wanted:
                low, least = middle + 1, found
            else:
                high, most = middle, found
        return low

    def _run_from(self, number: int, wanted: bytes, environment: Environment) -> Iterator[Found]:
        while number < self.entries:
            row = self._read(number, 1)
            if row[:HASH_LENGTH] != wanted:
                return
            yield Found(self.file, number, decode_entry(row, environment))
            number += 1

    def _with_bytes(self, wanted: bytes, offset: int, environment: Environment) -> Iterator[Found]:
        for first, piece in self.pieces():
            at = piece.find(wanted)
            while at >= 0:
                number, inside = divmod(at, ENTRY_LENGTH)
                if inside == offset:
                    row = piece[number * ENTRY_LENGTH : (number + 1) * ENTRY_LENGTH]
                    yield Found(self.file, first + number, decode_entry(row, environment))
                at = piece.find(wanted, at + 1)

    def _read(self, first: int, count: int) -> bytes:
        return self._bucket.read_range(self.file.path, first * ENTRY_LENGTH, count * ENTRY_LENGTH)


def time_of(row: bytes) -> int:
    """The time of an entry of 72 bytes, epoch seconds."""
    return int.from_bytes(row[_TIME], "little")
