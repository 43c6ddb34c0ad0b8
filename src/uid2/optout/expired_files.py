"""Deltas that may go: older than their lifespan, and a partition holds every opt-out in them (opt-out chapter, 7.2).

Their age alone is not believed: each opt-out is looked for in the partitions that were made after the delta.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from uid2.optout.bucket import Bucket
from uid2.optout.entry_files import EntryFile, time_of
from uid2.optout.listing import ListedFile
from uid2.optout.partitions import expired_deltas
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import HASH_LENGTH, SPECIAL_HASHES, OptOutFileKind


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds."""

    lifespan: int
    rotate_interval: int


@dataclass(frozen=True, slots=True)
class ExpiredDelta:
    """`kept_because` is None when the delta may be deleted."""

    file: ListedFile
    entries: int
    kept_because: str | None = None


@final
class _Missing:
    """The opt-outs of deltas that no partition was seen to hold yet: hash and latest time, by delta."""

    def __init__(self) -> None:
        self._of: dict[ListedFile, dict[bytes, int]] = {}

    def add(self, file: ListedFile, rows: Iterable[bytes]) -> None:
        wanted: dict[bytes, int] = {}
        for row in rows:
            identity_hash = row[:HASH_LENGTH]
            if identity_hash not in SPECIAL_HASHES:
                wanted[identity_hash] = max(time_of(row), wanted.get(identity_hash, 0))
        self._of[file] = wanted

    def strike_off(self, partition: EntryFile) -> None:
        """What a partition made after the delta holds with at least that time."""
        waiting = [wanted for file, wanted in self._of.items() if wanted and file.created < partition.file.created]
        anywhere = set().union(*waiting)
        for row in partition.rows() if anywhere else ():
            identity_hash = row[:HASH_LENGTH]
            if identity_hash not in anywhere:
                continue
            for wanted in waiting:
                if wanted.get(identity_hash, time_of(row) + 1) <= time_of(row):
                    del wanted[identity_hash]

    def count(self, file: ListedFile) -> int:
        return len(self._of[file])


def find_expired(
    bucket: Bucket, files: Iterable[ListedFile], now: EpochSeconds, retention: Retention
) -> list[ExpiredDelta]:
    """Every delta past its lifespan, oldest first, with the reason where it has to stay. StoreUnavailableError.

    One day of deltas is in memory at a time: a partition holds no more than that.
    """
    listed = tuple(files)
    partitions = [file for file in listed if file.kind is OptOutFileKind.PARTITION and not file.name.synthetic]
    by_partition: dict[ListedFile, list[ListedFile]] = {}
    for delta in expired_deltas(listed, now, retention.lifespan, retention.rotate_interval):
        # There is one: expired deltas are older than the newest partition.
        following = next(file for file in partitions if file.created > delta.created)
        by_partition.setdefault(following, []).append(delta)
    found: list[ExpiredDelta] = []
    for following, deltas in by_partition.items():
        found += _judged(bucket, deltas, partitions[partitions.index(following) :])
    return found


def _judged(bucket: Bucket, deltas: list[ListedFile], partitions: list[ListedFile]) -> list[ExpiredDelta]:
    missing = _Missing()
    opened = [EntryFile(bucket, delta) for delta in deltas]
    for delta in opened:
        missing.add(delta.file, delta.rows())
    for partition in partitions:
        if not any(missing.count(delta) for delta in deltas):
            break
        missing.strike_off(EntryFile(bucket, partition))
    return [ExpiredDelta(delta.file, delta.entries, _reason(delta, missing.count(delta.file))) for delta in opened]


def _reason(delta: EntryFile, missing: int) -> str | None:
    if delta.torn:
        return f"{delta.torn} bytes after the last entry belong to no entry"
    return f"no partition holds {missing} of its opt-outs" if missing else None
