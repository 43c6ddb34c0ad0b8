"""The operator keys that may call, read again every 10 s."""

import logging
from collections.abc import Callable
from typing import Final, final

from uid2.protocol.api_keys import ApiKeyIndex
from uid2.protocol.errors import Uid2Error
from uid2.protocol.operators import OperatorKey
from uid2.service.clock import Clock
from uid2.service.health import Health
from uid2.stores.kinds import OPERATORS
from uid2.stores.loading import LoadedStore, StoreLoader
from uid2.stores.refresher import StoreRefresher, StoreStatus

PERIOD_MS: Final = 10_000
COMPONENT: Final = "operators-rotator"

_log = logging.getLogger(__name__)


@final
class OperatorKeys:
    """`index` is None until the first load; a failed refresh leaves it as it is."""

    def __init__(
        self,
        loader: StoreLoader,
        clock: Clock,
        health: Health,
        on_tick: Callable[[StoreStatus], None] = lambda _: None,
    ) -> None:
        self.index: ApiKeyIndex[OperatorKey] | None = None
        self._health = health
        self._on_tick = on_tick
        self._refresher = StoreRefresher(
            [loader],
            now=clock.now_ms,
            monotonic=clock.monotonic,
            periods_ms={OPERATORS.name: PERIOD_MS},
            on_success=self._refreshed,
            on_failure=self._failed,
        )
        health.component(COMPONENT).starting()

    @property
    def status(self) -> StoreStatus:
        return self._refresher.statuses[OPERATORS.name]

    async def load(self) -> None:
        """One attempt; a failure is in health and log, and `run` goes on trying."""
        await self._refresher.refresh(OPERATORS.name)

    async def run(self) -> None:
        await self._refresher.run()

    def _refreshed(self, status: StoreStatus, store: LoadedStore | None) -> None:
        self._health.component(COMPONENT).recover()
        if store is not None:
            self.index = ApiKeyIndex(store.records)
            _log.info("%d operator keys loaded", len(store.records))
        self._on_tick(status)

    def _failed(self, status: StoreStatus, error: Uid2Error) -> None:
        if not status.loaded:
            self._health.component(COMPONENT).fail(error.message)
        _log.error("the operator keys could not be loaded: %s", error.message, extra={"next_step": error.next_step})
        self._on_tick(status)
