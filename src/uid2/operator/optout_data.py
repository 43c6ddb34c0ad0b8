"""The operator's opt-outs: the packed indices of the files, the journal, and what this process has taken since."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.tables import OptOutIndex, OptOutOverlay, OptOutView, empty_index
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind, OptOutFileName
from uid2.stores.optout_files import OptOutFiles
from uid2.stores.optout_runs import OptOutRuns

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Indexed:
    """New indices with their files, and an overlay with what they leave of it."""

    indices: tuple[OptOutIndex, ...]
    paths: tuple[Path, ...]
    overlay: OptOutOverlay
    trimmed: OptOutOverlay


@final
class OptOutData:
    """`view` is what requests see, `index_files` what its indices are mapped from, the large one first.

    A failed refresh removes nothing. An entry that was taken leaves the overlay with the refresh that brings the file
    which holds it, and in no other way.
    """

    def __init__(
        self,
        environment: Environment,
        files: OptOutFiles | None,
        index_path: Path | None,
        taken: Iterable[OptOutEntry] = (),
        on_change: Callable[[OptOutView], None] = lambda _: None,
        engine: Engine | None = None,
        now: Callable[[], EpochMillis] = lambda: EpochMillis(0),
        metrics: OptOutMetrics | None = None,
        old_after_seconds: int = 0,
    ) -> None:
        """Entries count as old, for a metric, when they are older than `old_after_seconds`."""
        self._now = now
        self._metrics = metrics or OptOutMetrics(OperatorMetrics())
        self._old_after = old_after_seconds
        engine = engine or best_engine()
        self._files = files
        self._runs = None if index_path is None else OptOutRuns(index_path, environment, engine)
        self._on_change = on_change
        self.index_files: tuple[Path, ...] = ()
        entries = [(entry.identity_hash, entry.advertising_id, int(entry.timestamp)) for entry in taken]
        self.view = OptOutView(engine.open_optouts(empty_index(environment).buffer)).with_entries(entries)
        # The period and a gap in the tail may ask at once; one writes and swaps at a time.
        self._refreshing = asyncio.Lock()
        self.failures = 0
        self.refreshed_at: EpochMillis | None = None
        self.problem: str | None = None

    def load(self) -> bool:
        """Index the files where they changed; whether the view is new. Errors leave it as it was. Before `run`."""
        indexed = self._build()
        if indexed is not None:
            self._swap(indexed)
        return indexed is not None

    async def refresh(self) -> bool:
        """`load` in a thread; whether it worked. A failure is logged and the old data stay.

        One at a time: whoever asks while one runs gets the next, whose list of files is newer than the question.
        """
        async with self._refreshing:
            try:
                indexed = await asyncio.to_thread(self._build)
            except Uid2Error as error:
                self.failures += 1
                self.problem = error.message
                _log.error(
                    "opt-out refresh failed, the old data stay: %s",
                    error.message,
                    extra={"next_step": error.next_step},
                )
                return False
            self.failures, self.problem = 0, None
            if indexed is not None:
                self._swap(indexed)
            return True

    async def run(self, period_seconds: float) -> None:
        """Refresh at the period until cancelled."""
        while True:
            await asyncio.sleep(period_seconds)
            await self.tick()

    async def tick(self) -> None:
        """The periodic refresh; skipped while another one runs."""
        if not self._refreshing.locked():
            await self.refresh()
        else:
            self._metrics.skipped()

    def take_entries(self, entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Honour these opt-outs from now on; what is known already does no harm."""
        if entries:
            self.view = self.view.with_entries(entries)
            self._on_change(self.view)

    def newest_file(self) -> EpochSeconds | None:
        """The time in the name of the newest file indexed."""
        return max((name.created for name in self._indexed if name.created is not None), default=None)

    def status(self) -> dict[str, object]:
        """The member `optouts` of /ops/status. Ages in seconds."""
        newest, now = self.newest_file(), self._now() // 1000
        kinds = Counter(name.kind for name in self._indexed)
        return {
            "entries": self.view.indexed,
            "fresh_entries": len(self.view.overlay),
            "partitions": kinds[OptOutFileKind.PARTITION],
            "deltas": kinds[OptOutFileKind.DELTA],
            "newest_file_age_seconds": None if newest is None else max(0, now - newest),
            "refreshed_seconds_ago": None if self.refreshed_at is None else max(0, now - self.refreshed_at // 1000),
            "failures": self.failures,
            "problem": self.problem,
        }

    @property
    def _indexed(self) -> tuple[OptOutFileName, ...]:
        return () if self._runs is None else self._runs.indexed

    def _build(self) -> _Indexed | None:
        if self._files is None or self._runs is None:
            return None
        began = time.perf_counter()
        known = set(self._runs.indexed)
        indexed = None
        try:
            changed = self._runs.update(self._files.find())
        except Uid2Error:
            self._metrics.not_refreshed()
            raise
        self.refreshed_at = self._now()
        self._metrics.refreshed()
        if changed:
            # The indices are whole; the overlay may go on growing on the event loop.
            indices, overlay = self._runs.indices, self.view.overlay
            indexed = _Indexed(indices, self._runs.paths, overlay, self.view.trimmed_overlay(indices))
            new = Counter(name.kind for name in self._runs.indexed if name not in known)
            before = self.refreshed_at // 1000 - self._old_after
            old = sum(index.hashes_before(before) for index in indices)
            self._metrics.indexed(new, old, time.perf_counter() - began)
        return indexed

    def _swap(self, new: _Indexed) -> None:
        # On the event loop, as `take`: the overlay that counts is the one of this moment.
        self.view = self.view.with_files(new.indices, self.view.overlay.since(new.overlay, new.trimmed))
        self.index_files = new.paths
        self._on_change(self.view)
