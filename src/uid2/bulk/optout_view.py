"""What one request sees of the opt-outs: the index of the files and, over it, what came since.

The overlay keeps the latest entries in small tables and moves them, some hundreds at a time, into packed indices of
its own. A logout so costs the same however many there were before. What the files hold meanwhile leaves the overlay
when an index of them comes into force. Views never change.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, final

from uid2.bulk.optout_index import ROW, OptOutIndex, canonical_raw_uid, metadata_of_id, row_of
from uid2.protocol.ids import Environment, FirstLevelHash
from uid2.protocol.optout_log import LARGEST_TIMESTAMP, SPECIAL_HASHES

FRESH_ENTRIES: Final = 256
# Two indices of the overlay become one up to this size, which bounds the pause of the logout that makes it.
LARGEST_MERGED: Final = 16_384
# A logout carries the clock of its operator, the files that of the opt-out service, which may be behind.
CLOCKS_DIFFER_SECONDS: Final = 300

Entry = tuple[bytes, bytes, int]
"""First-level hash, raw UID, epoch seconds."""
Pack = Callable[[bytes, Environment], OptOutIndex]
"""The index of rows of 40 bytes in any order."""


@final
class OptOutOverlay:
    """Opt-outs that came after the index was built; immutable, `with_entries` gives the next one."""

    def __init__(
        self, fresh: tuple[Entry, ...] = (), unpackable: tuple[Entry, ...] = (), indices: tuple[OptOutIndex, ...] = ()
    ) -> None:
        self._fresh, self._unpackable = fresh, unpackable
        self.indices = indices
        self.by_hash: dict[bytes, int] = {}
        self.by_id: dict[bytes, int] = {}
        for flh, raw_uid, seconds in (*unpackable, *fresh):
            self.by_hash[flh] = max(seconds, self.by_hash.get(flh, 0))
            self.by_id[raw_uid] = min(seconds, self.by_id.get(raw_uid, seconds))

    @property
    def unpacked(self) -> tuple[Entry, ...]:
        """The entries that are in none of the indices."""
        return (*self._unpackable, *self._fresh)

    @cached_property
    def fresh_hashes(self) -> bytes:
        """The hashes of `by_hash` that count as opted out, ascending, 32 bytes each."""
        return b"".join(sorted(flh for flh, seconds in self.by_hash.items() if seconds > 0))

    def with_entries(self, entries: Iterable[Entry], environment: Environment, pack: Pack) -> "OptOutOverlay":
        """The overlay with these added."""
        fresh, unpackable, indices = list(self._fresh), list(self._unpackable), self.indices
        for entry in entries:
            (fresh if _packable(entry, environment) else unpackable).append(entry)
        if len(fresh) > FRESH_ENTRIES:
            indices = _with_rows(indices, b"".join(row_of(*entry) for entry in fresh), environment, pack)
            fresh.clear()
        return OptOutOverlay(tuple(fresh), tuple(unpackable), indices)

    def trimmed(self, files: Sequence[OptOutIndex], environment: Environment, pack: Pack) -> "OptOutOverlay":
        """The overlay without what the indices of the files hold: the same hash and id at the same time or later.

        Its indices become few. May take long, and so runs beside the requests: see `since`.
        """
        rows = b"".join(row_of(*entry) for entry in self._fresh)
        left = _in_none(files, rows)
        rows_left = {left[at : at + ROW] for at in range(0, len(left), ROW)}
        fresh = tuple(entry for entry in self._fresh if row_of(*entry) in rows_left)
        stay: list[OptOutIndex] = []
        rest: list[bytes] = []
        for index in self.indices:
            rows = _in_none(files, index.rows)
            if len(rows) == len(index.rows) and index.size > LARGEST_MERGED:
                stay.append(index)
            else:
                rest.append(rows)
        rows = b"".join(rest)
        while stay and len(stay[-1].rows) <= len(rows):
            rows = b"".join((stay.pop().rows, rows))
        indices = (*stay, pack(rows, environment)) if rows else tuple(stay)
        return OptOutOverlay(fresh, self._unpackable, indices)

    def since(self, before: "OptOutOverlay", trimmed: "OptOutOverlay") -> "OptOutOverlay":
        """This overlay, which grew out of `before`, as if it had grown out of what `before` was trimmed to."""
        if self is before:
            return trimmed
        dropped = set(before._fresh).difference(trimmed._fresh)
        fresh = tuple(entry for entry in self._fresh if entry not in dropped)
        later = tuple(index for index in self.indices if index not in before.indices)
        return OptOutOverlay(fresh, self._unpackable, (*trimmed.indices, *later))

    def __len__(self) -> int:
        return len(self.by_hash) + sum(index.size for index in self.indices)


@final
class OptOutView:
    """The index with an overlay; `recent` are the indices of files that came after it."""

    __slots__ = ("index", "overlay", "recent")

    def __init__(
        self, index: OptOutIndex, overlay: OptOutOverlay | None = None, recent: tuple[OptOutIndex, ...] = ()
    ) -> None:
        self.index = index
        self.overlay = overlay or OptOutOverlay()
        self.recent = recent

    @property
    def files(self) -> tuple[OptOutIndex, ...]:
        """The indices of the files, the large one first."""
        return (self.index, *self.recent)

    @property
    def indexed(self) -> int:
        """Rows of the files."""
        return sum(index.size for index in self.files)

    @property
    def indices(self) -> tuple[OptOutIndex, ...]:
        """Every packed index, the large one first."""
        return (*self.files, *self.overlay.indices)

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        """Epoch seconds of the latest opt-out, 0 when there is none."""
        latest = self.index.timestamp_of_hash(flh)
        overlay = self.overlay
        if overlay.by_hash:
            latest = max(latest, overlay.by_hash.get(flh, 0))
        for index in self.recent:
            latest = max(latest, index.timestamp_of_hash(flh))
        for index in overlay.indices:
            latest = max(latest, index.timestamp_of_hash(flh))
        return latest

    def finder(self) -> Callable[[FirstLevelHash], int]:
        """`timestamp_of_hash` for many hashes."""
        alone = not (self.recent or self.overlay.by_hash or self.overlay.indices)
        return self.index.timestamp_of_hash if alone else self.timestamp_of_hash

    def timestamp_of_id(self, raw_uid: str) -> int | None:
        """Epoch seconds of the earliest record, None when there is none."""
        found = self.index.timestamp_of_id(raw_uid)
        for index in (*self.recent, *self.overlay.indices):
            found = _earliest(found, index.timestamp_of_id(raw_uid))
        by_id = self.overlay.by_id
        key = canonical_raw_uid(raw_uid) if by_id else None
        return found if key is None else _earliest(found, by_id.get(key))

    def timestamps_of_ids(self, raw_uids: Sequence[str]) -> list[int | None]:
        """`timestamp_of_id` of each."""
        found = self.index.timestamps_of_ids(raw_uids)
        for index in (*self.recent, *self.overlay.indices):
            found = list(map(_earliest, found, index.timestamps_of_ids(raw_uids)))
        by_id = self.overlay.by_id
        if by_id:
            keys = map(canonical_raw_uid, raw_uids)
            found = list(map(_earliest, found, [None if key is None else by_id.get(key) for key in keys]))
        return found

    def with_entries(self, entries: Iterable[Entry]) -> "OptOutView":
        """The view after these opt-outs as well."""
        overlay = self.overlay.with_entries(entries, self.index.environment, type(self.index).of_rows)
        return OptOutView(self.index, overlay, self.recent)

    def trimmed_overlay(self, files: Sequence[OptOutIndex]) -> OptOutOverlay:
        """The overlay without what these indices of files hold."""
        return self.overlay.trimmed(files, self.index.environment, type(self.index).of_rows)

    def with_files(self, files: Sequence[OptOutIndex], overlay: OptOutOverlay) -> "OptOutView":
        """The view over new indices of files, the large one first."""
        return OptOutView(files[0], overlay, tuple(files[1:]))


def _in_none(files: Sequence[OptOutIndex], rows: bytes | memoryview) -> bytes:
    """The rows for whose hash and id no index has their time or a later one."""
    left = bytes(rows)
    for index in files:
        if left and index.size:
            left = index.missing_rows(left, CLOCKS_DIFFER_SECONDS)
    return left


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _packable(entry: Entry, environment: Environment) -> bool:
    flh, raw_uid, seconds = entry
    return (
        flh not in SPECIAL_HASHES
        and len(raw_uid) in (32, 33)
        and metadata_of_id(raw_uid, environment) is not None
        and 0 <= seconds <= LARGEST_TIMESTAMP
    )


def _with_rows(
    indices: tuple[OptOutIndex, ...], rows: bytes, environment: Environment, pack: Pack
) -> tuple[OptOutIndex, ...]:
    """The indices with one more, which takes in those before it that are not much larger."""
    new = pack(rows, environment)
    while indices and indices[-1].size <= new.size and indices[-1].size + new.size <= LARGEST_MERGED:
        new = pack(b"".join((indices[-1].rows, new.rows)), environment)
        indices = indices[:-1]
    return (*indices, new)
