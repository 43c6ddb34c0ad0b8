"""What Core itself keeps in memory: operator keys, registered enclaves, cloud-encryption keys; re-read every 60 s."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from uid2.core.settings import CoreSettings
from uid2.protocol.api_keys import ApiKeyIndex
from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.enclaves import Enclave
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import SiteId
from uid2.protocol.operators import OperatorKey
from uid2.service.clock import Clock
from uid2.service.health import Health
from uid2.stores.kinds import CLOUD_KEYS, ENCLAVES, OPERATORS
from uid2.stores.loading import LoadedStore, StoreLoader
from uid2.stores.refresher import StoreRefresher, StoreStatus
from uid2.stores.sources.base import BlobSource

PERIOD_MS: Final = 60_000
OWN_KINDS: Final = (OPERATORS, ENCLAVES, CLOUD_KEYS)

_log = logging.getLogger(__name__)


@final
class OwnData:
    """`operators` is None until the first load; the others are empty until theirs. `loaded(store)` tells them apart."""

    def __init__(
        self,
        settings: CoreSettings,
        source: BlobSource,
        clock: Clock,
        health: Health,
        on_tick: Callable[[StoreStatus], None] = lambda _: None,
    ) -> None:
        self.operators: ApiKeyIndex[OperatorKey] | None = None
        self._enclaves: frozenset[tuple[str, str]] = frozenset()
        self._cloud_keys: Mapping[SiteId, tuple[CloudKey, ...]] = {}
        self._health = health
        self._on_tick = on_tick
        self._refresher = StoreRefresher(
            [StoreLoader(kind, source, settings.metadata_paths[kind.name], clock.now_ms) for kind in OWN_KINDS],
            now=clock.now_ms,
            monotonic=clock.monotonic,
            periods_ms={kind.name: PERIOD_MS for kind in OWN_KINDS},
            on_success=self._refreshed,
            on_failure=self._failed,
        )
        for kind in OWN_KINDS:
            health.component(_component(kind.component)).starting()

    @property
    def statuses(self) -> Mapping[str, StoreStatus]:
        return self._refresher.statuses

    def loaded(self, store: str) -> bool:
        return self._refresher.statuses[store].loaded

    def registered(self, protocol: str) -> frozenset[str]:
        """The enclave identifiers of a protocol, hexadecimal ones in lower case."""
        return frozenset(identifier for name, identifier in self._enclaves if name == protocol)

    def cloud_keys_of(self, site_id: SiteId) -> tuple[CloudKey, ...]:
        return self._cloud_keys.get(site_id, ())

    async def load(self) -> None:
        """One attempt at every store; failures are in health and logs, and `run` goes on trying."""
        for kind in OWN_KINDS:
            await self._refresher.refresh(kind.name)

    async def run(self) -> None:
        """Refreshes until cancelled."""
        await self._refresher.run()

    def _refreshed(self, status: StoreStatus, store: LoadedStore | None) -> None:
        self._health.component(_component(status.component)).recover()
        if store is not None:
            self._take(status.store, store.records)
        self._on_tick(status)

    def _failed(self, status: StoreStatus, error: Uid2Error) -> None:
        if not status.loaded:
            self._health.component(_component(status.component)).fail(error.message)
        kept = "the old data stay" if status.loaded else "there are no data yet"
        _log.error("store %s could not be loaded, %s: %s", status.store, kept, error.message)
        self._on_tick(status)

    def _take(self, store: str, records: tuple[Any, ...]) -> None:
        if store == OPERATORS.name:
            self.operators = ApiKeyIndex(records)
            _log.info("%d operator keys loaded", len(records))
        elif store == ENCLAVES.name:
            self._register(frozenset(_pair(enclave) for enclave in records))
        else:
            by_site: dict[SiteId, list[CloudKey]] = {}
            for key in records:
                by_site.setdefault(key.site_id, []).append(key)
            self._cloud_keys = {site: tuple(keys) for site, keys in by_site.items()}

    def _register(self, enclaves: frozenset[tuple[str, str]]) -> None:
        for word, pairs in (("registered", enclaves - self._enclaves), ("removed", self._enclaves - enclaves)):
            for protocol, identifier in sorted(pairs):
                _log.info("enclave %s: protocol=%s mr_enclave=%s", word, protocol, identifier)
        self._enclaves = enclaves


def _component(name: str) -> str:
    return f"{name}-rotator"


def _pair(enclave: Enclave) -> tuple[str, str]:
    # Only measurements are hexadecimal; the identifiers of other protocols are base64, where case counts.
    identifier = enclave.identifier.strip()
    return enclave.protocol, identifier.lower() if enclave.protocol == "azure-sgx" else identifier
