"""Keeps the stores current.

Each store has its own period. A tick reads the metadata, and the content only when the version grew. What loads
replaces the store whole; what fails leaves the old one in use and is tried again at the next tick.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, final

from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.errors import StoreUnavailableError, Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.protocol.runtime_config import RuntimeConfig
from uid2.stores.kinds import ALL_KINDS, CLOUD_KEYS, StoreKind
from uid2.stores.loading import LoadedStore
from uid2.stores.snapshot import OperatorSnapshot

DEFAULT_PERIOD_MS: Final = 10_000
REFRESH_THREADS: Final = 4
NOT_STARTED: Final = "not started"


class Loader(Protocol):
    """One store: `fetch` gives it, None when its version is not above the loaded one."""

    @property
    def kind(self) -> StoreKind: ...

    def fetch(self, loaded_version: int | None, cloud_keys: Mapping[int, CloudKey]) -> LoadedStore | None: ...


@dataclass(slots=True)
class StoreStatus:
    """What metrics, health and `/ops/status` say of a store (operator chapter, 14.5). -1: not loaded yet."""

    store: str
    component: str
    version: int = -1
    entries: int = -1
    refreshed: int = 0
    failures: int = 0
    failing: bool = False
    refresh_ms: int = 0
    first_load_ms: int | None = None
    last_success: EpochMillis | None = None
    problem: str | None = NOT_STARTED

    @property
    def loaded(self) -> bool:
        return self.last_success is not None


OnSuccess = Callable[[StoreStatus, LoadedStore | None], None]
OnFailure = Callable[[StoreStatus, Uid2Error], None]


@final
class StoreRefresher:
    """`periods_ms` by store name. `on_success` gets None for the store when its version had not grown.

    `runtime_config` counts when no runtime configuration store is loaded.
    """

    def __init__(
        self,
        loaders: Iterable[Loader],
        *,
        now: Callable[[], EpochMillis],
        monotonic: Callable[[], float],
        periods_ms: Mapping[str, int] | None = None,
        runtime_config: RuntimeConfig | None = None,
        on_success: OnSuccess | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        order = list(ALL_KINDS)
        self._loaders = {
            loader.kind.name: loader for loader in sorted(loaders, key=lambda loader: order.index(loader.kind.name))
        }
        self._now = now
        self._monotonic = monotonic
        self._periods = dict(periods_ms or {})
        self._local_config = runtime_config
        self._on_success = on_success
        self._on_failure = on_failure
        self._loaded: dict[str, LoadedStore] = {}
        self._snapshot: OperatorSnapshot | None = None
        # Threads of its own: a source that hangs may keep them all, and nothing else waits for it.
        self._threads = ThreadPoolExecutor(REFRESH_THREADS, thread_name_prefix="refresh")
        self.statuses = {name: StoreStatus(name, loader.kind.component) for name, loader in self._loaders.items()}

    @property
    def ready(self) -> bool:
        return all(status.loaded for status in self.statuses.values())

    @property
    def snapshot(self) -> OperatorSnapshot:
        """The stores as last loaded; StoreUnavailableError before the first load of the required ones."""
        if self._snapshot is None:
            records = {name: store.records for name, store in self._loaded.items()}
            if self._local_config is not None:
                records.setdefault("runtime_config", self._local_config)
            versions = {name: store.content.version for name, store in self._loaded.items()}
            self._snapshot = OperatorSnapshot.assemble(records, versions)
        return self._snapshot

    @property
    def loaded(self) -> tuple[LoadedStore, ...]:
        """Every store as it was last loaded."""
        return tuple(self._loaded.values())

    def load_all(self) -> OperatorSnapshot:
        """The first load of every store, one after the other; the first error is raised."""
        for name in self._loaders:
            try:
                found = self._fetch(name)
            except Uid2Error as error:
                self._failed(name, error)
                raise
            self._succeeded(name, found)
        return self.snapshot

    async def refresh(self, store: str) -> bool:
        """One tick of a store in a thread; whether it succeeded."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, store)
        except Uid2Error as error:
            self._failed(store, error)
            return False
        except Exception as error:  # noqa: BLE001 - the loop must outlive anything a file can provoke
            self._failed(store, StoreUnavailableError(f"the refresh broke off: {type(error).__name__}"))
            return False
        self._succeeded(store, found)
        return True

    async def run(self) -> None:
        """Refresh every store at its period until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._loaders:
                tasks.create_task(self._repeat(name), name=f"refresh {name}")

    def stale(self, longest_ms: int) -> list[str]:
        """The loaded stores whose last success is longer ago."""
        now = self._now()
        return [
            status.store
            for status in self.statuses.values()
            if status.last_success is not None and now - status.last_success > longest_ms
        ]

    async def _repeat(self, store: str) -> None:
        period = self._periods.get(store, DEFAULT_PERIOD_MS) / 1000
        while True:
            await asyncio.sleep(period)
            await self.refresh(store)

    def _fetch(self, store: str) -> LoadedStore | None:
        began = self._monotonic()
        held = self._loaded.get(store)
        try:
            return self._loaders[store].fetch(None if held is None else held.content.version, self._cloud_keys())
        finally:
            status = self.statuses[store]
            elapsed = round((self._monotonic() - began) * 1000)
            status.refresh_ms += elapsed
            if status.first_load_ms is None:
                status.first_load_ms = elapsed

    def _cloud_keys(self) -> Mapping[int, CloudKey]:
        held = self._loaded.get(CLOUD_KEYS.name)
        return {} if held is None else {key.id: key for key in held.records}

    def _succeeded(self, store: str, found: LoadedStore | None) -> None:
        status = self.statuses[store]
        if found is not None:
            self._loaded[store] = found
            if self._snapshot is not None:
                self._snapshot = self._snapshot.replace(store, found.records, found.content.version)
            status.version, status.entries = found.content.version, found.entries
        status.refreshed += 1
        status.failing, status.problem = False, None
        status.last_success = self._now()
        if self._on_success is not None:
            self._on_success(status, found)

    def _failed(self, store: str, error: Uid2Error) -> None:
        status = self.statuses[store]
        status.failures += 1
        status.failing, status.problem = True, error.message
        if self._on_failure is not None:
            self._on_failure(status, error)
