"""What is counted and shown of stores, keys and salts (operator chapter, 14.5)."""

from typing import final

from uid2.bulk.engine import Engine
from uid2.bulk.tables import SaltTable
from uid2.operator.context import OperatorContext
from uid2.protocol.ids import EpochSeconds
from uid2.service.metrics import Metrics
from uid2.stores.refresher import StoreStatus
from uid2.stores.snapshot import OperatorSnapshot


@final
class StoreMetrics:
    """Follows refreshes; `sample` brings the gauges of the moment up to date."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._spent: dict[str, int] = {}
        self._cache = (0, 0)
        self._salts: tuple[SaltTable, tuple[int, int]] | None = None

    def refreshed(self, status: StoreStatus) -> None:
        store = status.component
        self._metrics.count("uid2_config_store_refreshed_total", store=store)
        self._metrics.gauge("uid2_config_store_version", status.version, store=store)
        self._metrics.gauge("uid2_config_store_entry_count", status.entries, store=store)
        self._metrics.gauge("uid2_scoped_store_entry_count", status.entries, store=status.store)
        if status.refreshed == 1:
            seconds = (status.first_load_ms or 0) / 1000
            self._metrics.observe("uid2_store_refresh_duration_seconds", seconds, store_name=store)
        self._tick(status)

    def failed(self, status: StoreStatus) -> None:
        self._metrics.count("uid2_config_store_refresh_failures_total", store=status.component)
        self._tick(status)

    def decrypted(self, key_id: int, store: str, status: str) -> None:
        """An encrypted store file was opened, or did not open."""
        self._metrics.count("uid2_cloud_decryption_runs_total", key_id=key_id, store=store, status=status)

    def sample(self, context: OperatorContext) -> None:
        snapshot, now = context.snapshot, context.clock.now_ms()
        salts = snapshot.salts.select(now)
        self._metrics.gauge("uid2_second_level_salt_current_effective", salts.effective)
        earliest, latest = self._salt_ages(salts.table, context.engine)
        self._metrics.gauge("uid2_second_level_salt_last_updated_min", earliest)
        self._metrics.gauge("uid2_second_level_salt_last_updated_max", latest)
        indexed, fresh = context.optouts.indexed, len(context.optouts.overlay)
        self._metrics.gauge("uid2_optout_entries_indexed", indexed + fresh)
        self._metrics.gauge("uid2_optout_ad_id_count", indexed + fresh)
        self._metrics.gauge("uid2_operator_optout_overlay_entries", fresh)
        for keyset in snapshot.key_ring.keysets:
            key = snapshot.key_ring.active(keyset.keyset_id, EpochSeconds(now // 1000))
            if key is not None and keyset.enabled and keyset.default:
                self._metrics.gauge("uid2_encryption_key_activates", key.activates, site_id=keyset.site_id)
        self.sample_lookups(snapshot)

    def sample_lookups(self, snapshot: OperatorSnapshot) -> None:
        """The look-ups of client keys in this process."""
        lookups, misses = snapshot.clients.lookups, snapshot.clients.cache_misses
        # A refresh of the clients starts their counters anew.
        before = self._cache if lookups >= self._cache[0] else (0, 0)
        self._metrics.count("uid2_cache_total_count_total", lookups - before[0], cache="apikeyindex")
        self._metrics.count("uid2_cache_miss_count_total", max(0, misses - before[1]), cache="apikeyindex")
        self._cache = (lookups, misses)

    def _salt_ages(self, table: SaltTable, engine: Engine) -> tuple[int, int]:
        """Least and greatest update of a table, read once: it takes a pass over a million rows."""
        if self._salts is None or self._salts[0] is not table:
            self._salts = (table, engine.last_updated_range(table))
        return self._salts[1]

    def _tick(self, status: StoreStatus) -> None:
        store = status.component
        self._metrics.gauge("uid2_config_store_consecutive_refresh_failures", int(status.failing), store=store)
        spent = status.refresh_ms - self._spent.get(store, 0)
        self._metrics.count("uid2_config_store_refreshtime_ms_total", max(0, spent), store=store)
        self._spent[store] = status.refresh_ms
