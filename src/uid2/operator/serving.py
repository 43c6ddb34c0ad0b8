"""What answers the requests: this process, or workers."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Protocol, final

from uid2.operator.routes import operator_application
from uid2.operator.running import RunningOperator
from uid2.operator.settings import OperatorSettings
from uid2.operator.worker_count import libos_below, worker_count
from uid2.operator.worker_pool import WorkerPool
from uid2.protocol.cloud_keys import CloudKey
from uid2.service.health import Health
from uid2.service.metrics import MetricState
from uid2.service.server import HttpServer
from uid2.service.shared_files import SharedFolder
from uid2.stores.export import StoreExport
from uid2.stores.kinds import CLOUD_KEYS, StoreKind
from uid2.stores.loading import LoadedStore
from uid2.stores.refresher import Loader


class Serving(Protocol):
    """`start` returns when requests are answered, `stop` when none is left."""

    async def start(self) -> None: ...

    async def stop(self, grace_seconds: float) -> None: ...

    @property
    def ready(self) -> bool: ...

    def status(self) -> Mapping[str, object]: ...

    async def metric_states(self) -> Sequence[MetricState]:
        """What was counted elsewhere."""


@final
class OwnProcess:
    """One process does everything."""

    def __init__(self, operator: RunningOperator, health: Health, listener: socket.socket) -> None:
        self._server = HttpServer(operator_application(operator.context, health), [listener])

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        await self._server.stop(grace_seconds)

    @property
    def ready(self) -> bool:
        return True

    def status(self) -> Mapping[str, object]:
        return {"processes": 1}

    async def metric_states(self) -> Sequence[MetricState]:
        return ()


@final
class ProcessPlan:
    """How many processes serve, and the memory they share; decided before anything is loaded."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.count = worker_count(settings, os.cpu_count() or 1, libos=libos_below())
        self._folder: SharedFolder | None = None
        self._export: StoreExport | None = None
        if self.count > 1:
            self._folder = SharedFolder()
            self._export = StoreExport(self._folder.path / "stores")

    def share(self, loader: Loader) -> Loader:
        """The loader whose stores the workers read."""
        # Only who fetches store files needs the keys that decrypt them.
        if self._export is None or loader.kind is CLOUD_KEYS:
            return loader
        return _SharingLoader(loader, self._export)

    def serving(self, operator: RunningOperator, health: Health, listener: socket.socket) -> Serving:
        """What serves an operator that is loaded. ConfigurationError: a worker could not serve with these settings."""
        if self._folder is None or self._export is None:
            return OwnProcess(operator, health, listener)
        # Made once here, so that what is wrong with it ends the start and not every worker.
        operator_application(operator.context, health)
        return WorkerPool(operator, health, self.count, listener, self._folder, self._export)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.close()


@final
class _SharingLoader:
    def __init__(self, loader: Loader, export: StoreExport) -> None:
        self._loader = loader
        self._export = export

    @property
    def kind(self) -> StoreKind:
        return self._loader.kind

    def fetch(self, loaded_version: int | None, cloud_keys: Mapping[int, CloudKey]) -> LoadedStore | None:
        store = self._loader.fetch(loaded_version, cloud_keys)
        return None if store is None else self._export.put(store)
