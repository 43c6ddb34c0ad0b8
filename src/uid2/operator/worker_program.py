"""A worker process of an operator: it answers requests and does nothing else.

Stores and opt-outs come from the supervising operator in files that all workers map; logouts go to it.
"""

import asyncio
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Final, final

from uid2.bulk.engine import Engine, engine_named
from uid2.bulk.tables import OptOutIndex, OptOutOverlay, OptOutView, empty_index
from uid2.operator.assembly import local_runtime_config
from uid2.operator.context import OperatorContext, OptOutRequest, SaltExpiry
from uid2.operator.lanes import Lanes, favour_the_loop
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.routes import operator_application
from uid2.operator.store_metrics import StoreMetrics
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
    received,
    sent,
    taken_settings,
)
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import Environment
from uid2.service.clock import SystemClock, SystemEntropy
from uid2.service.messages import Request, Response
from uid2.service.server import HttpServer
from uid2.service.worker import Worker
from uid2.stores.export import read_export, snapshot_from_export
from uid2.stores.optout_runs import map_index

ANSWER_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


async def serve(worker: Worker) -> None:
    """The program that `uid2.service.worker` runs."""
    favour_the_loop()
    program = OperatorWorker(worker)
    await worker.join()
    if worker.stopping.is_set():
        return
    server = HttpServer(operator_application(program.context, program), worker.sockets)
    await server.start()
    await worker.ready()
    await worker.stopping.wait()
    await server.stop(worker.grace_seconds)
    program.close()


@final
class OperatorWorker:
    """The worker's data. What it is told is done in the order in which it came."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._clock = SystemClock()
        self._metrics = OperatorMetrics(self._clock)
        self._store_metrics = StoreMetrics(self._metrics)
        self._stores = Path()
        self._reading = asyncio.Lock()
        self._indexing = asyncio.Lock()
        self._indices: dict[str, OptOutIndex] = {}
        self._context: OperatorContext | None = None
        worker.on(STATE, self._take_state)
        worker.on(STORES, self._swap_stores)
        worker.on(INDEX, self._swap_index)
        worker.on(OPTOUTS, self._take_optouts)
        worker.on(METRICS, self._show_metrics)
        worker.on(SALTS, self._show_salts)

    @property
    def context(self) -> OperatorContext:
        assert self._context is not None, "the operator hands over its state first"
        return self._context

    async def record(self, optout: OptOutRequest) -> None:
        """The operator makes the logout last and spreads it; DependencyError when it cannot."""
        await self._worker.request(LOGOUT, sent(Logout.of(optout)))

    async def handle(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a handler
        """The health of the whole operator."""
        try:
            state = received(await self._worker.request(HEALTH, None, ANSWER_SECONDS), HealthState)
        except DependencyError:
            return Response(503, b"http-server: the operator does not answer its worker")
        return Response(state.status, state.body.encode())

    def close(self) -> None:
        self.context.lanes.close()
        if self._worker.orphaned:
            # Nobody else is left to remove what holds secrets.
            shutil.rmtree(self._stores.parent, ignore_errors=True)

    async def _take_state(self, payload: Any) -> None:
        handover = received(payload, Handover)
        settings = taken_settings(handover.settings)
        engine = engine_named(settings.bulk_engine)
        self._stores = Path(handover.stores)
        snapshot = await asyncio.to_thread(snapshot_from_export, self._stores, local_runtime_config(settings))
        empty = empty_index(Environment(handover.environment)).buffer
        files = self._opened(handover.index, engine) or [engine.open_optouts(empty)]
        overlay = OptOutOverlay()
        if handover.overlay is not None:
            overlay = OptOutOverlay(indices=(engine.open_optouts(Path(handover.overlay).read_bytes()),))
        self._context = OperatorContext(
            settings=settings,
            clock=self._clock,
            entropy=SystemEntropy(),
            snapshot=snapshot,
            optouts=OptOutView(files[0], overlay, tuple(files[1:])).with_entries(handover.fresh),
            metrics=self._metrics,
            lanes=Lanes(settings.lane_threads, settings.bulk_queue_bytes, settings.bulk_queue_seconds),
            optout_sink=self,
            spread_optout=_spread_by_the_operator,
            # The operator says so for all of them.
            salt_expiry=SaltExpiry(reports=False),
            engine=engine,
        )

    async def _swap_stores(self, _: Any) -> None:
        # One after the other: what was read first must not replace what was read later.
        async with self._reading:
            context = self.context
            changed = await asyncio.to_thread(read_export, self._stores, context.snapshot.versions)
            snapshot = context.snapshot
            for name, store in changed.items():
                snapshot = snapshot.replace(name, store.records, store.content.version)
            context.snapshot = snapshot

    async def _swap_index(self, payload: Any) -> None:
        """Maps the indices; what they hold leaves the overlay in the same moment."""
        paths = received(payload, IndexFiles).index
        async with self._indexing:
            try:
                files = self._opened(paths, self.context.engine)
            except FileNotFoundError:
                # Replaced already, and the message that says so is on its way. Until then everything stays.
                _log.info("an opt-out index was replaced before it was mapped")
                return
            before = self.context.optouts
            trimmed = await asyncio.to_thread(before.trimmed_overlay, files)
            view = self.context.optouts
            self.context.optouts = view.with_files(files, view.overlay.since(before.overlay, trimmed))

    def _opened(self, paths: list[str], engine: Engine) -> list[OptOutIndex]:
        """The indices of these files; what is mapped already is mapped once."""
        known = self._indices
        opened = {path: known.get(path) or engine.open_optouts(map_index(Path(path))) for path in paths}
        self._indices = opened
        return list(opened.values())

    async def _take_optouts(self, payload: Any) -> None:
        self.context.optouts = self.context.optouts.with_entries(received(payload, Entries).entries)

    async def _show_metrics(self, _: Any) -> dict[str, Any]:
        self._store_metrics.sample_lookups(self.context.snapshot)
        self._metrics.gauge("uid2_operator_optout_overlay_entries", len(self.context.optouts.overlay))
        return {"pid": os.getpid(), "state": self._metrics.state()}

    async def _show_salts(self, _: Any) -> dict[str, Any]:
        return {"since": self.context.salt_expiry.since}


async def _spread_by_the_operator(optout: OptOutRequest) -> None:
    """Done already: the operator answers a logout when all workers, this one too, honour it."""
