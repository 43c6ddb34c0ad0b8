"""An operator with its data: first loads, refresh loops, and the watch over its own right to go on.

(attest ─▶) load ─▶ context for the handlers ─▶ refresh stores, opt-outs ─▶ (12 hours without good data) ─▶ stop
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final, final

from uid2.bulk.engine import engine_named
from uid2.bulk.tables import OptOutView
from uid2.corelink.exchange import AttestationRefusedError
from uid2.corelink.headers import new_instance_id
from uid2.operator.assembly import core_loaders, local_runtime_config, optout_data, store_loaders, store_source
from uid2.operator.context import OperatorContext, OptOutRequest
from uid2.operator.core_link import OperatorCoreLink
from uid2.operator.followers import Followers
from uid2.operator.lanes import Lanes
from uid2.operator.optout_data import OptOutData
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.operator.optout_service import OptOutService
from uid2.operator.optout_sink import open_sink
from uid2.operator.optout_tail import OptOutTail
from uid2.operator.settings import OperatorSettings
from uid2.operator.stop_rules import CHECK_SECONDS, HOUR_MS, check_mock_stores, reason_to_stop
from uid2.operator.store_health import StoreHealth
from uid2.operator.store_metrics import StoreMetrics
from uid2.protocol.errors import (
    ConfigurationError,
    StoreFormatError,
    StoreUnavailableError,
    Uid2Error,
)
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.service.clock import Clock, Entropy
from uid2.service.health import Health
from uid2.service.metrics import Metrics
from uid2.stores.loading import LoadedStore
from uid2.stores.optout_journal import OptOutJournal
from uid2.stores.refresher import Loader, StoreRefresher, StoreStatus
from uid2.stores.snapshot import OperatorSnapshot

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

ATTEST_TICK_SECONDS: Final = 1.0

_log: Final = logging.getLogger(__name__)


class StoppedByRule(Uid2Error):  # noqa: N818 - an outcome rather than a failure of the program
    """The operator ends itself: its data have been bad for too long (exit 1)."""

    code = "self_shutdown"


@final
class RunningOperator:
    """`load` blocks and is called once, in a thread or before the loop; `run` keeps everything current.

    `quotes` proves to Core what this program is; without it the operator key must be of protocol `trusted`.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        quotes: "QuoteSource | None" = None,
        version: str = "unknown",
        share: Callable[[Loader], Loader] = lambda loader: loader,
        health: Health | None = None,
    ) -> None:
        """`share` stands between each loader and what it loads: there stores are shared with workers.

        `health` gets a component for each store and one for the opt-outs.
        """
        self.settings = settings
        self.followers: Followers | None = None
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self.store_metrics = StoreMetrics(metrics)
        self._optout_metrics = OptOutMetrics(metrics)
        self._closing = Event()
        self._instance_id = new_instance_id(settings.uid_instance_id_prefix, entropy)
        self.core: OperatorCoreLink | None = None
        if settings.core_attest_url is not None:
            self.core = OperatorCoreLink(settings, version, self._instance_id, quotes, clock, entropy, metrics)
            loaders = core_loaders(settings, self.core, clock.now_ms, self.store_metrics.decrypted)
        else:
            loaders = store_loaders(settings, store_source(settings), clock.now_ms, self.store_metrics.decrypted)
        self.stores = StoreRefresher(
            map(share, loaders),
            now=clock.now_ms,
            monotonic=clock.monotonic,
            periods_ms=settings.refresh_ms,
            runtime_config=local_runtime_config(settings),
            on_success=self._refreshed,
            on_failure=self._failed,
        )
        self._health = StoreHealth(health or Health(), self.stores.statuses.values())
        self._context: OperatorContext | None = None
        self._optouts: OptOutData | None = None
        self._journal: OptOutJournal | None = None
        self._service: OptOutService | None = None
        self.optout_tail: OptOutTail | None = None
        if self.core is not None and (settings.optout_metadata_path or settings.optout_api_uri):
            attestation = self.core.attestation
            paths = settings.optout_metadata_path, settings.optout_api_uri
            self._service = OptOutService(attestation, clock, entropy, *paths)

    def sample_optouts(self) -> None:
        """Brings the gauges up to date."""
        status = self.optout_status()
        if status is None:
            return
        tail = self.optout_tail
        self._optout_metrics.sample(status, None if tail is None else tail.status()["answered_seconds_ago"])

    def optout_status(self) -> dict[str, object] | None:
        """The member `optouts` of /ops/status."""
        if self._optouts is None:
            return None
        tail = None if self.optout_tail is None else self.optout_tail.status()
        return {**self._optouts.status(), "tail": tail}

    @property
    def optout_index_files(self) -> tuple[Path, ...]:
        """Where the opt-out indices in force are mapped from, the large one first; none while there is none."""
        return () if self._optouts is None else self._optouts.index_files

    @property
    def context(self) -> OperatorContext:
        assert self._context is not None, "load comes first"
        return self._context

    @property
    def ready(self) -> bool:
        return self._context is not None

    def load(self) -> None:
        """The first load of everything.

        ConfigurationError: a broken file, or mock stores that cannot serve. StoreUnavailableError: a file is missing.
        With Core: AttestationRefusedError, DependencyError; stores are tried until they load or `close` is called.
        """
        self._health.starting()
        try:
            snapshot = self.stores.load_all() if self.core is None else self._load_from_core(self.core)
            if snapshot is None:
                return
            now = self._clock.now_ms()
            if self.settings.storage_mock and self.core is None:
                check_mock_stores(snapshot, now)
            environment = snapshot.runtime_config.identity_environment
            sink, self._journal = open_sink(
                self.settings, self._service, self._instance_id, environment, EpochSeconds(now // 1000)
            )
            self._optouts = optout_data(
                self.settings,
                environment,
                self._service,
                () if self._journal is None else self._journal.entries,
                self._optouts_changed,
                self._clock,
                self._optout_metrics,
            )
            self._health.optouts.starting()
            if not self._load_optouts(self._optouts):
                return
            self._health.optouts.recover()
        except StoreFormatError as error:
            raise ConfigurationError(error.message, next_step=error.next_step or "repair the file") from None
        settings = self.settings
        self._context = OperatorContext(
            settings=settings,
            clock=self._clock,
            entropy=self._entropy,
            snapshot=snapshot,
            optouts=self._optouts.view,
            metrics=self._metrics,
            lanes=Lanes(settings.lane_threads, settings.bulk_queue_bytes, settings.bulk_queue_seconds),
            optout_sink=sink,
            spread_optout=self._spread,
            engine=engine_named(settings.bulk_engine),
        )

    async def run(self) -> None:
        """Refresh until cancelled; StoppedByRule when the operator may not go on."""
        assert self._optouts is not None, "load comes first"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.stores.run())
                tasks.create_task(self._optouts.run(self.settings.cloud_refresh_interval))
                tasks.create_task(self._watch())
                if self.optout_tail is not None:
                    tasks.create_task(self.optout_tail.run())
                if self.core is not None:
                    tasks.create_task(self._stay_attested(self.core))
        except BaseExceptionGroup as group:
            # Raised inside `except*` it would come out in a group again.
            stop = group.subgroup((StoppedByRule, AttestationRefusedError))
            if stop is None:
                raise
            raise stop.exceptions[0] from None

    def abandon(self) -> None:
        """Makes `load`, which runs in a thread, return without data."""
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        if self.core is not None:
            self.core.close()
        if self._service is not None:
            self._service.close()
        if self._journal is not None:
            self._journal.close()
        if self._context is not None:
            self._context.lanes.close()

    def check(self) -> None:
        """StoppedByRule when this operator may not go on."""
        settings = self.settings
        reason = reason_to_stop(
            self._clock.now_ms(),
            self.context.salt_expiry,
            settings.salts_expired_shutdown_hours,
            self.stores.stale(settings.store_refresh_stale_shutdown_hours * HOUR_MS),
            settings.store_refresh_stale_shutdown_hours,
        )
        if reason is None and self.core is not None:
            reason = self.core.outage.reason_to_stop()
        if reason is not None:
            raise StoppedByRule(reason, next_step="check the stores and Core, then start the operator again")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self.followers is not None:
                self._note_expiry(await self.followers.salts_expired_since())
            self.check()

    def _note_expiry(self, since: EpochMillis | None) -> None:
        """What the workers say of salts in use; the end of a worker does not make it forgotten."""
        expiry, now = self.context.salt_expiry, self._clock.now_ms()
        if not self.context.snapshot.salts.expired(now):
            expiry.since = None
        elif since is not None:
            expiry.used_expired(since, now)

    async def _stay_attested(self, core: OperatorCoreLink) -> None:
        """Renews in time; AttestationRefusedError as soon as Core has refused any attempt."""
        while True:
            await asyncio.sleep(ATTEST_TICK_SECONDS)
            if core.attestation.refusal is not None:
                raise core.attestation.refusal
            if core.attestation.due():
                await asyncio.to_thread(core.attestation.renew)

    def _load_from_core(self, core: OperatorCoreLink) -> OperatorSnapshot | None:
        """Attests, then loads until every store is there; None when `close` came first."""
        if not core.attest_first(self._closing.wait):
            return None
        for pause in core.pauses():
            try:
                return self.stores.load_all()
            except (StoreFormatError, StoreUnavailableError) as error:
                _log.error("the first load failed: %s", error.message, extra={"next_step": error.next_step})
            reason = core.outage.reason_to_stop()
            if reason is not None:
                raise StoppedByRule(reason, next_step="check Core, then start the operator again")
            if self._closing.wait(pause):
                break
        return None

    def _load_optouts(self, optouts: OptOutData) -> bool:
        """The files and, behind an opt-out service, everything it has taken up to now; False when `close` came first.

        Nothing is served before the first good list of files: an empty one would let through who has opted out.
        """
        if self._service is None or not self.settings.optout_metadata_path:
            optouts.load()
            return True
        tail = OptOutTail(self._service, optouts.refresh, self._take_entries, self._clock, self._entropy)
        for pause in tail.pauses():
            cursor = tail.begin()
            try:
                optouts.load()
            except (StoreFormatError, StoreUnavailableError) as error:
                self._health.optouts.fail(error.message)
                _log.error("the opt-outs could not be loaded: %s", error.message, extra={"next_step": error.next_step})
            else:
                optouts.take_entries(tail.catch_up(cursor))
                self.optout_tail = tail
                return True
            if self._closing.wait(pause):
                break
        return False

    def _refreshed(self, status: StoreStatus, store: LoadedStore | None) -> None:
        self.store_metrics.refreshed(status)
        self._health.loaded(status)
        if store is not None and self._context is not None:
            self._context.snapshot = self.stores.snapshot
            if self.followers is not None:
                self.followers.stores_changed()
            _log.info("store %s now has version %d", status.store, status.version)

    def _failed(self, status: StoreStatus, error: Uid2Error) -> None:
        self.store_metrics.failed(status)
        self._health.failed(status)
        if self._context is not None:
            _log.error(
                "store %s could not be refreshed, the old data stay: %s",
                status.store,
                error.message,
                extra={"next_step": error.next_step or "repair the file; every refresh tries it again"},
            )

    def _optouts_changed(self, view: OptOutView) -> None:
        if self._context is None:
            return
        swapped = view.files != self._context.optouts.files
        self._context.optouts = view
        if swapped and self.followers is not None:
            self.followers.index_changed()

    async def _spread(self, optout: OptOutRequest) -> None:
        """Every process of this operator honours the logout when this returns."""
        entry = (bytes(optout.first_level_hash), bytes(optout.raw_uid), int(optout.at))
        await self._take_entries((entry,))

    async def _take_entries(self, entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        assert self._optouts is not None, "load comes first"
        self._optouts.take_entries(entries)
        if entries and self.followers is not None:
            await self.followers.optouts_taken(entries)
