"""Daily partitions: the entries of the latest deltas, sorted, one for each hash (opt-out chapter, 3.4 and 7.2)."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from uid2.optout.bucket import Bucket
from uid2.optout.durable_files import locked
from uid2.optout.entry_files import time_of
from uid2.optout.file_list import FileList, read_bucket
from uid2.optout.listing import GRACE_INTERVALS, ListedFile, newest_partition, partition_path
from uid2.protocol.errors import StoreFormatError, Uid2Error
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import ENTRY_LENGTH, HASH_LENGTH, OptOutFileKind, check_size
from uid2.service.clock import Clock, Entropy
from uid2.service.metrics import Metrics

DAY_SECONDS: Final = 86_400
COMPACTED_ROWS: Final = 1 << 18

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionRules:
    """`replica` takes every `replicas`-th slot of three rotation intervals, counted from midnight (UTC)."""

    folder: str
    replica: int
    replicas: int
    rotate_interval: int

    @property
    def grace_seconds(self) -> int:
        return GRACE_INTERVALS * self.rotate_interval

    def due(self, files: Iterable[ListedFile], now: EpochSeconds) -> bool:
        """Whether today has no partition yet and it is this replica's turn to write it."""
        midnight = now - now % DAY_SECONDS
        newest = newest_partition(files)
        if newest is not None and newest > midnight:
            return False
        return (now - midnight) // self.grace_seconds % self.replicas == self.replica

    def inputs(self, files: Iterable[ListedFile], now: EpochSeconds) -> list[ListedFile]:
        """The deltas to merge, oldest first. Those of the grace time before the last partition are merged again."""
        listed = tuple(files)
        newest = newest_partition(listed)
        oldest = 0 if newest is None else newest - self.grace_seconds
        return [file for file in listed if file.kind is OptOutFileKind.DELTA and oldest < file.created < now]


def merged_entries(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The entries of named files, ascending by identity hash, one for each: the one with the latest time.

    StoreFormatError names a file whose size is no multiple of 72.
    """
    rows: list[bytes] = []
    enough = COMPACTED_ROWS
    for name, data in files:
        try:
            check_size(len(data))
        except StoreFormatError as error:
            raise error.in_file(name) from None
        rows += [data[at : at + ENTRY_LENGTH] for at in range(0, len(data), ENTRY_LENGTH)]
        # Repetitions go as they come, so that memory follows the number of people.
        if len(rows) >= enough:
            rows = _latest_of_each(rows)
            enough = max(COMPACTED_ROWS, 2 * len(rows))
    return b"".join(_latest_of_each(rows))


def _latest_of_each(rows: list[bytes]) -> list[bytes]:
    """One entry for each identity hash, ascending."""
    rows.sort()
    kept: list[bytes] = []
    for row in rows:
        if kept and kept[-1][:HASH_LENGTH] == row[:HASH_LENGTH]:
            kept[-1] = max(kept[-1], row, key=time_of)
        else:
            kept.append(row)
    return kept


def expired_deltas(
    files: Iterable[ListedFile], now: EpochSeconds, lifespan: int, rotate_interval: int
) -> list[ListedFile]:
    """Deltas older than `lifespan` seconds whose every entry is in a partition; partitions never expire."""
    listed = tuple(files)
    newest = newest_partition(listed)
    if newest is None:
        return []
    before = min(now - lifespan, newest - GRACE_INTERVALS * rotate_interval)
    return [file for file in listed if file.kind is OptOutFileKind.DELTA and file.created < before]


@final
class PartitionProducer:
    """`run` looks after each `seconds` whether a partition is due. A failure is logged and tried again."""

    def __init__(
        self,
        rules: PartitionRules,
        bucket: Bucket,
        files: FileList,
        lock_file: Path,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
    ) -> None:
        self._rules = rules
        self._bucket = bucket
        self._files = files
        self._lock_file = lock_file
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self.problem: str | None = None

    async def run(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.step()

    async def step(self) -> str | None:
        """The path of the partition that was written, None when none was."""
        files = self._files.files
        if files is None or not self._rules.due(files, self._now()):
            return None
        try:
            path = await asyncio.to_thread(self._produce)
        except Uid2Error as error:
            if self.problem != error.message:
                _log.error("no partition was written: %s", error.message, extra={"next_step": error.next_step})
            self.problem = error.message
            return None
        self.problem = None
        if path is not None:
            self._metrics.count("uid2_optout_partition_produced_total")
            await self._files.refresh()
        return path

    def _produce(self) -> str | None:
        with locked(self._lock_file, wait=False) as mine:
            if not mine:
                return None
            now = self._now()
            # What another instance has written since the last listing counts.
            files = read_bucket(self._bucket, self._rules.folder)
            inputs = self._rules.inputs(files, now)
            if not inputs or not self._rules.due(files, now):
                return None
            data = merged_entries(self._read(inputs))
            if not data:
                return None
            path = partition_path(
                self._rules.folder, self._rules.replica, now, int.from_bytes(self._entropy.bytes(4), "big")
            )
            self._bucket.put(path, data)
            _log.info("wrote %s with %d entries of %d deltas", path, len(data) // ENTRY_LENGTH, len(inputs))
            return path

    def _read(self, inputs: Sequence[ListedFile]) -> Iterable[tuple[str, bytes]]:
        for file in inputs:
            data = self._bucket.read(file.path)
            if not data:
                _log.warning("passed over the empty delta %s", file.path)
            yield file.path, data

    def _now(self) -> EpochSeconds:
        return EpochSeconds(self._clock.now_ms() // 1000)
