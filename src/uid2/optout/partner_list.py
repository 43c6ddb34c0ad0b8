"""The partners to tell: Core's store, or one file of this machine (opt-out chapter, 7.3).

{"version":…,"generated":…,"partner_endpoints":[…]}     the form of the one file
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, final

import msgspec

from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.errors import StoreFormatError, StoreUnavailableError, Uid2Error
from uid2.protocol.metadata import parse_version
from uid2.protocol.partners import Partner, parse_partners
from uid2.protocol.store_json import parse_json
from uid2.service.clock import Clock
from uid2.service.health import Health
from uid2.stores.kinds import PARTNERS, StoreKind
from uid2.stores.loading import LoadedStore, StoreContent
from uid2.stores.refresher import Loader, StoreRefresher, StoreStatus

PERIOD_MS: Final = 10_000
COMPONENT: Final = "partners-rotator"

_log = logging.getLogger(__name__)


@final
class PartnerFile:
    """A loader of the one file."""

    kind: StoreKind = PARTNERS

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self, loaded_version: int | None, cloud_keys: Mapping[int, CloudKey]) -> LoadedStore | None:
        """None when the version has not grown. StoreUnavailableError, StoreFormatError."""
        del cloud_keys
        try:
            data = self._path.read_bytes()
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot read {self._path.name}: {error.strerror}", next_step="check partners_config_path"
            ) from None
        try:
            version = parse_version(data)
            if loaded_version is not None and version <= loaded_version:
                return None
            partners = parse_partners(msgspec.json.encode(parse_json(data).get("partner_endpoints")))
        except StoreFormatError as error:
            raise error.in_file(self._path.name) from None
        return LoadedStore(StoreContent(PARTNERS.name, version, data, ()), partners, len(partners))


@final
class PartnerList:
    """`partners` is empty until the first load; a list that is wrong anywhere changes nothing."""

    def __init__(
        self,
        loader: Loader,
        clock: Clock,
        health: Health,
        on_tick: Callable[[StoreStatus], None] = lambda _: None,
    ) -> None:
        self.partners: tuple[Partner, ...] = ()
        self._health = health
        self._on_tick = on_tick
        self._refresher = StoreRefresher(
            [loader],
            now=clock.now_ms,
            monotonic=clock.monotonic,
            periods_ms={PARTNERS.name: PERIOD_MS},
            on_success=self._refreshed,
            on_failure=self._failed,
        )
        health.component(COMPONENT).starting()

    @property
    def status(self) -> StoreStatus:
        return self._refresher.statuses[PARTNERS.name]

    async def load(self) -> None:
        """One attempt; a failure is in health and log."""
        await self._refresher.refresh(PARTNERS.name)

    async def run(self) -> None:
        await self._refresher.run()

    def _refreshed(self, status: StoreStatus, store: LoadedStore | None) -> None:
        self._health.component(COMPONENT).recover()
        if store is not None:
            self.partners = store.records
            _log.info("%d partners loaded", len(self.partners))
        self._on_tick(status)

    def _failed(self, status: StoreStatus, error: Uid2Error) -> None:
        if not status.loaded:
            self._health.component(COMPONENT).fail(error.message)
        _log.error("the partners could not be loaded: %s", error.message, extra={"next_step": error.next_step})
        self._on_tick(status)
