"""The parts of health that stand for stores and opt-outs: unhealthy until the first load (operator chapter, 13.2)."""

from collections.abc import Iterable
from typing import Final, final

from uid2.service.health import Health
from uid2.stores.refresher import StoreStatus

OPTOUT_COMPONENT: Final = "cloudsync-optout"


@final
class StoreHealth:
    """What has loaded once stays healthy: later failures show in metrics and the log."""

    def __init__(self, health: Health, stores: Iterable[StoreStatus]) -> None:
        self._parts = {store.component: health.component(f"{store.component}-rotator") for store in stores}
        self.optouts = health.component(OPTOUT_COMPONENT)

    def starting(self) -> None:
        for part in self._parts.values():
            part.starting()

    def loaded(self, store: StoreStatus) -> None:
        self._parts[store.component].recover()

    def failed(self, store: StoreStatus) -> None:
        if not store.loaded:
            self._parts[store.component].fail(store.problem)
