"""The operator's opt-outs: the packed index of the files, the journal, and what this process has taken since."""

import asyncio
import logging
import mmap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import final

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.tables import OptOutIndex, OptOutView, empty_index
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind
from uid2.stores.optout_files import OptOutFiles

_log = logging.getLogger(__name__)


@final
class OptOutData:
    """`view` is what requests see, `index_file` what its index is mapped from.

    A failed refresh removes nothing; `taken` entries stay through every refresh.
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
        self._refreshing = asyncio.Lock()
        self._built: OptOutIndex | None = None
        self._engine = engine or best_engine()
        self._files = files
        self._path = index_path
        self._on_change = on_change
        self.index_file: Path | None = None
        entries = [(entry.identity_hash, entry.advertising_id, int(entry.timestamp)) for entry in taken]
        self.view = OptOutView(self._engine.open_optouts(empty_index(environment).buffer)).with_entries(entries)
        self.failures = 0
        self.refreshed_at: EpochMillis | None = None
        self.problem: str | None = None

    def load(self) -> bool:
        """Index the files where they changed; whether the view is new. Errors leave it as it was. Before `run`."""
        changed = self._build()
        if changed:
            self._swap()
        return changed

    async def refresh(self) -> bool:
        """`load` in a thread; whether it worked. A failure is logged and the old data stay.

        One at a time: whoever asks while one runs gets the next, whose list of files is newer than the question.
        """
        async with self._refreshing:
            try:
                changed = await asyncio.to_thread(self._build)
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
            if changed:
                self._swap()
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
        names = () if self._files is None else self._files.indexed
        return max((name.created for name in names if name.created is not None), default=None)

    def status(self) -> dict[str, object]:
        """The member `optouts` of /ops/status. Ages in seconds."""
        newest, now = self.newest_file(), self._now() // 1000
        kinds = Counter(name.kind for name in (() if self._files is None else self._files.indexed))
        return {
            "entries": self.view.index.size,
            "fresh_entries": len(self.view.overlay),
            "partitions": kinds[OptOutFileKind.PARTITION],
            "deltas": kinds[OptOutFileKind.DELTA],
            "newest_file_age_seconds": None if newest is None else max(0, now - newest),
            "refreshed_seconds_ago": None if self.refreshed_at is None else max(0, now - self.refreshed_at // 1000),
            "failures": self.failures,
            "problem": self.problem,
        }

    def _build(self) -> bool:
        if self._files is None or self._path is None:
            return False
        began = time.perf_counter()
        known = set(self._files.indexed)
        try:
            changed = self._files.build(self._path)
        except Uid2Error:
            self._metrics.not_refreshed()
            raise
        self.refreshed_at = self._now()
        self._metrics.refreshed()
        if changed:
            self._built = self._engine.open_optouts(map_index(self._path))
            new = Counter(name.kind for name in self._files.indexed if name not in known)
            old = self._built.hashes_before(self.refreshed_at // 1000 - self._old_after)
            self._metrics.indexed(new, old, time.perf_counter() - began)
        return changed

    def _swap(self) -> None:
        # On the event loop, as `take`: the overlay that counts is the one of this moment.
        assert self._built is not None, "it was built"
        self.view, self._built = OptOutView(self._built, self.view.overlay), None
        self.index_file = self._path
        self._on_change(self.view)


def map_index(path: Path) -> memoryview:
    """An index file in memory; all processes that map it share it."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
