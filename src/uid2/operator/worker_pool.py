"""The workers of an operator, seen from the process that does the outside work (design, 5 and 6).

stores ─▶ packed files in memory ─▶ mapped by every worker      logout of a worker ─▶ made to last ─▶ all workers
opt-out indices ─▶ files ────────▶ mapped by every worker       ─▶ confirmed by all ─▶ answered
"""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, final

from uid2.operator.running import RunningOperator
from uid2.operator.settings import SECRETS, OperatorSettings
from uid2.operator.worker_messages import (
    HEALTH,
    INDEX,
    LOGOUT,
    METRICS,
    OPTOUTS,
    SALTS,
    STATE,
    STORES,
    Entries,
    Handover,
    HealthState,
    IndexFiles,
    Logout,
    handed_settings,
    received,
    sent,
)
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.service.channel import Channel
from uid2.service.gathered_metrics import GatheredMetrics
from uid2.service.health import Health
from uid2.service.metrics import MetricState
from uid2.service.shared_files import SharedFolder
from uid2.service.supervisor import Supervisor
from uid2.stores.export import StoreExport

PROGRAM: Final = "uid2.operator.worker_program:serve"
WATCH_SECONDS: Final = 0.2
# A worker that reads new stores may take its time; it goes on answering with the old ones.
SWAP_SECONDS: Final = 60.0
# Workers that end this often before all have served will not serve at all.
ENDS_AT_START: Final = 6
NO_WORKER: Final = "no worker serves"

_log = logging.getLogger(__name__)


class WorkersFailed(Uid2Error):  # noqa: N818 - an outcome rather than a failure of the program
    """The workers end before they serve."""

    code = "workers"


@final
class WorkerPool:
    """Serves through `count` processes on `listener`, which it owns."""

    def __init__(
        self,
        operator: RunningOperator,
        health: Health,
        count: int,
        listener: socket.socket,
        folder: SharedFolder,
        export: StoreExport,
    ) -> None:
        self._operator = operator
        self._health = health
        self._count = count
        self._listener = listener
        self._folder = folder
        self._export = export
        self._metrics = GatheredMetrics()
        self._files = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._settings = handed_settings(shared_out(operator.settings, count))
        environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        # The worker chooses its event loop before it hears of the settings.
        environ["http_loop"] = operator.settings.http_loop or ""
        self._supervisor = Supervisor(PROGRAM, count, [listener], prepare=self._prepare, environ=environ)
        self._supervisor.on(LOGOUT, self._log_out)
        self._supervisor.on(HEALTH, self._show_health)

    async def start(self) -> None:
        """Returns when all workers serve; WorkersFailed when they end again and again."""
        self._operator.followers = self
        starting = asyncio.create_task(self._supervisor.start())
        try:
            while not starting.done() and self._supervisor.replaced < ENDS_AT_START:
                await asyncio.wait((starting,), timeout=WATCH_SECONDS)
            if starting.done():
                starting.result()
                self._announce(self._watch())
                return
        finally:
            starting.cancel()
        raise WorkersFailed(
            "the worker processes end before they serve",
            next_step="look at their last log lines, or set worker_processes to 1",
        )

    async def stop(self, grace_seconds: float) -> None:
        """No new connections, running requests finish within the time, then every worker is collected."""
        stopping = asyncio.create_task(self._supervisor.stop(grace_seconds))
        await asyncio.sleep(0)
        # Ours is the last descriptor once the workers have closed theirs: left open, callers would queue for nobody.
        self._listener.close()
        await stopping
        for task in list(self._tasks):
            task.cancel()

    @property
    def ready(self) -> bool:
        return self._supervisor.ready_workers > 0

    def status(self) -> dict[str, object]:
        """The member `workers` of /ops/status."""
        ready, replaced = self._supervisor.ready_workers, self._supervisor.replaced
        return {"processes": self._count, "ready": ready, "replaced": replaced, "pids": self._supervisor.pids}

    async def metric_states(self) -> list[MetricState]:
        """What the workers have counted, those that ended included."""
        answers = await self._supervisor.collect(METRICS)
        self._metrics.update(((answer["pid"], answer["state"]) for answer in answers), self._supervisor.pids)
        return self._metrics.states()

    # What the operator tells

    def stores_changed(self) -> None:
        self._announce(self._swap_stores())

    def index_changed(self) -> None:
        self._announce(self._supervisor.spread(INDEX, sent(IndexFiles(self._index())), SWAP_SECONDS))

    async def optouts_taken(self, entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        await self._supervisor.spread(OPTOUTS, sent(Entries(list(entries))))

    async def salts_expired_since(self) -> EpochMillis | None:
        answers = await self._supervisor.collect(SALTS)
        times = [answer["since"] for answer in answers if answer["since"] is not None]
        return min(times, default=None)

    # What the workers ask

    async def _log_out(self, payload: Any) -> None:
        context, optout = self._operator.context, received(payload, Logout).request()
        await context.optout_sink.record(optout)
        await context.spread_optout(optout)

    async def _show_health(self, _: Any) -> dict[str, Any]:
        response = self._health.response()
        return sent(HealthState(response.status, response.body.decode()))

    async def _prepare(self, channel: Channel) -> None:
        """Hands over what is in force now; what changes meanwhile the supervisor keeps for the worker."""
        view = self._operator.context.optouts
        overlay = None
        if view.overlay.indices:
            rows = b"".join(index.rows for index in view.overlay.indices)
            packed = type(view.index).of_rows(rows, view.index.environment)
            overlay = self._folder.path / f"overlay.{next(self._files)}"
            overlay.write_bytes(packed.buffer)
        try:
            handover = Handover(
                settings=self._settings,
                stores=str(self._export.directory),
                environment=view.index.environment,
                index=self._index(),
                overlay=None if overlay is None else str(overlay),
                fresh=list(view.overlay.unpacked),
            )
            await channel.request(STATE, sent(handover), SWAP_SECONDS)
        finally:
            if overlay is not None:
                overlay.unlink(missing_ok=True)

    async def _swap_stores(self) -> None:
        await self._supervisor.spread(STORES, None, SWAP_SECONDS)
        await asyncio.to_thread(self._export.tidy)

    async def _watch(self) -> None:
        """The component `http-server` is as well as the workers are."""
        http = self._health.component("http-server")
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self.ready:
                http.fail(NO_WORKER)
            elif http.reason == NO_WORKER:
                http.recover()

    def _index(self) -> list[str]:
        return list(map(str, self._operator.optout_index_files))

    def _announce(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def shared_out(settings: OperatorSettings, count: int) -> OperatorSettings:
    """Settings for one of `count` workers: threads and queue are those of the whole operator."""
    return replace(
        settings,
        bulk_threads=max(1, settings.lane_threads // count),
        bulk_queue_bytes=max(1, settings.bulk_queue_bytes // count),
    )
