"""Where operator keys and partners are read: from Core, or from a folder with Core's stores."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from uid2.corelink.link import CoreLink
from uid2.optout.settings import OptOutSettings
from uid2.protocol.ids import EpochMillis
from uid2.stores.kinds import StoreKind
from uid2.stores.loading import StoreLoader
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.mock import MockSource

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoreStores:
    """`source` holds the metadata at `paths` by store, `content` what their locations name."""

    source: BlobSource
    content: BlobSource
    paths: Mapping[str, str]

    def loader(self, kind: StoreKind, now: Callable[[], EpochMillis]) -> StoreLoader:
        return StoreLoader(kind, self.source, self.paths[kind.name], now, content=self.content)


def core_stores(settings: OptOutSettings, core: CoreLink | None) -> CoreStores:
    """Those of Core where there is a link to it, else those of the folder `storage_mock_root`."""
    if core is not None:
        if settings.storage_mock_root is not None:
            _log.warning("storage_mock_root is not read: core_attest_url is set")
        return CoreStores(core.source, core.content, core.addresses)
    assert settings.storage_mock_root is not None, "checked with the settings"
    folder = MockSource(settings.storage_mock_root)
    return CoreStores(folder, folder, settings.store_paths)
