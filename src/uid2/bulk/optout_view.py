"""What one request sees of the opt-outs: the index of the files and, over it, what came since.

The overlay keeps the latest entries in small tables and moves them, some hundreds at a time, into packed indices of
its own. A logout so costs the same however many there were before. Views never change.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, final

from uid2.bulk.optout_index import OptOutIndex, canonical_raw_uid, metadata_of_id, row_of
from uid2.protocol.ids import Environment, FirstLevelHash
from uid2.protocol.optout_log import LARGEST_TIMESTAMP, SPECIAL_HASHES

FRESH_ENTRIES: Final = 256
# Two indices of the overlay become one up to this size, which bounds the pause of the logout that makes it.
LARGEST_MERGED: Final = 16_384

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

    def __len__(self) -> int:
        return len(self.by_hash) + sum(index.size for index in self.indices)


@final
class OptOutView:
    """The index with an overlay."""

    __slots__ = ("index", "overlay")

    def __init__(self, index: OptOutIndex, overlay: OptOutOverlay | None = None) -> None:
        self.index = index
        self.overlay = overlay or OptOutOverlay()

    @property
    def indices(self) -> tuple[OptOutIndex, ...]:
        """Every packed index, the large one first."""
        return (self.index, *self.overlay.indices)

    def timestamp_of_hash(self, flh: FirstLevelHash) -> int:
        """Epoch seconds of the latest opt-out, 0 when there is none."""
        latest = self.index.timestamp_of_hash(flh)
        overlay = self.overlay
        if overlay.by_hash:
            latest = max(latest, overlay.by_hash.get(flh, 0))
        for index in overlay.indices:
            latest = max(latest, index.timestamp_of_hash(flh))
        return latest

    def finder(self) -> Callable[[FirstLevelHash], int]:
        """`timestamp_of_hash` for many hashes."""
        overlay = self.overlay
        return self.timestamp_of_hash if overlay.by_hash or overlay.indices else self.index.timestamp_of_hash

    def timestamp_of_id(self, raw_uid: str) -> int | None:
        """Epoch seconds of the earliest record, None when there is none."""
        return self.timestamps_of_ids([raw_uid])[0]

    def timestamps_of_ids(self, raw_uids: Sequence[str]) -> list[int | None]:
        """`timestamp_of_id` of each."""
        found = self.index.timestamps_of_ids(raw_uids)
        for index in self.overlay.indices:
            found = list(map(_earliest, found, index.timestamps_of_ids(raw_uids)))
        by_id = self.overlay.by_id
        if by_id:
            keys = map(canonical_raw_uid, raw_uids)
            found = list(map(_earliest, found, [None if key is None else by_id.get(key) for key in keys]))
        return found

    def with_entries(self, entries: Iterable[Entry]) -> "OptOutView":
        """The view after these opt-outs as well."""
        pack = type(self.index).of_rows
        return OptOutView(self.index, self.overlay.with_entries(entries, self.index.environment, pack))


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
