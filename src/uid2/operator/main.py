"""`uid2 operator serve`: configuration ─▶ ops listener ─▶ first loads ─▶ service port ─▶ drain."""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uid2.bulk.engine import engine_named
from uid2.operator.api_description import description_route
from uid2.operator.attest_platform import QuoteSourceOf, quote_source_for
from uid2.operator.evidence import EvidenceEndpoint, configuration_digest, record_digest
from uid2.operator.lanes import favour_the_loop
from uid2.operator.metric_names import APPLICATION, OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.serving import ProcessPlan, Serving
from uid2.operator.settings import ACCEPTED, OperatorSettings, config_keys, settings_of
from uid2.protocol.errors import Uid2Error
from uid2.service.clock import Clock, Entropy, SystemClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode, exit_code_of, run_main
from uid2.service.health import STILL_STARTING, Health
from uid2.service.logs import set_up_logs
from uid2.service.metrics import render_states
from uid2.service.ops import OpsApplication
from uid2.service.server import HttpServer, bind_socket, event_loop_factory

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

DRAIN_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


def serve(
    config_path: Path | str | None,
    environ: Mapping[str, str] | None = None,
    quote_source_of: QuoteSourceOf | None = None,
) -> int:
    """Runs one operator in the foreground until a signal, a drain or an error; gives the exit code.

    `quote_source_of` makes the source of a simulated TEE from the path of its socket; development only.
    """
    set_up_logs()
    environment = os.environ if environ is None else environ
    try:
        file = None if config_path is None else Path(config_path)
        configuration = load_configuration(config_keys(), file, environment, accepted=ACCEPTED)
        settings = settings_of(configuration.members)
        loop_factory = event_loop_factory(settings.http_loop)
        quotes = quote_source_for(settings, quote_source_of)
        operator = OperatorProgram(
            settings,
            environment.get("IMAGE_VERSION", "unknown"),
            quotes=quotes,
            configuration=configuration_digest(configuration.printable()),
        )
    except Uid2Error as error:
        code = exit_code_of(error)
        _log.critical(error.message, extra={"cause": error.code, "next_step": error.next_step, "exit_code": int(code)})
        return code
    return run_main(operator.run(), loop_factory=loop_factory, has_started=lambda: operator.started)


class OperatorProgram:
    """Two listeners, one operator; requests are answered here or by workers. Used once."""

    def __init__(
        self,
        settings: OperatorSettings,
        version: str,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        quotes: "QuoteSource | None" = None,
        configuration: bytes = b"",
    ) -> None:
        self._settings = settings
        self._version = version
        self._clock = clock or SystemClock()
        self._began = self._clock.monotonic()
        self._metrics = OperatorMetrics(self._clock)
        self._metrics.gauge("app_status", 1, version=version)
        self._health = Health()
        self._health.component("http-server")
        self._plan = ProcessPlan(settings)
        self._operator = RunningOperator(
            settings,
            self._clock,
            entropy or SystemEntropy(),
            self._metrics,
            quotes,
            version,
            self._plan.share,
            self._health,
        )
        self._serving: Serving | None = None
        self._evidence = EvidenceEndpoint(
            quotes, version, configuration, record_digest(settings.identity_record), self._clock, self._metrics
        )
        self._stop = asyncio.Event()
        self.started = False

    async def run(self) -> int:
        """Everything from the ops listener to the drain."""
        settings = self._settings
        favour_the_loop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        http = self._health.component("http-server")
        http.fail(STILL_STARTING)
        self._health.watch_pod(self._clock, settings.pod_termination_check_interval)
        try:
            ops = HttpServer(
                self._ops_application(), [bind_socket(settings.http_host, port) for port in settings.ops_ports]
            )
        except Uid2Error:
            self._plan.close()
            raise
        await ops.start()
        try:
            if not await self._loaded():
                return ExitCode.NORMAL
            listener = bind_socket(settings.http_host, settings.service_port)
            service = self._serving = self._plan.serving(self._operator, self._health, listener)
            if not await self._has_started(service):
                return ExitCode.NORMAL
            http.recover()
            self.started = True
            elapsed = self._clock.monotonic() - self._began
            self._metrics.observe("uid2_operator_startup_duration_seconds", elapsed)
            _log.info("bulk work is done by the %s engine", engine_named(settings.bulk_engine).name)
            _log.info(
                "the operator serves on port %d after %.1f s, processes: %d",
                settings.service_port,
                elapsed,
                self._plan.count,
            )
            await self._serve_until_stopped(service)
        finally:
            self._operator.close()
            await ops.stop(1.0)
            self._plan.close()
        _log.info("the operator has stopped")
        return ExitCode.NORMAL

    async def _loaded(self) -> bool:
        """The first load, in a thread; False when a signal or a drain came first."""
        loading = asyncio.create_task(asyncio.to_thread(self._operator.load))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            self._operator.abandon()
        stopping.cancel()
        await loading
        return self._operator.ready

    async def _has_started(self, service: Serving) -> bool:
        """False when a signal or a drain came before everything served; it has stopped then."""
        starting = asyncio.create_task(service.start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                return True
        except BaseException:
            await service.stop(0.0)
            raise
        finally:
            starting.cancel()
            stopping.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop(0.0)
        return False

    async def _serve_until_stopped(self, service: Serving) -> None:
        refreshing = asyncio.create_task(self._operator.run())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((refreshing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if refreshing.done():
                refreshing.result()
        finally:
            self.draining()
            await service.stop(DRAIN_SECONDS)
            for task in (refreshing, stopping):
                task.cancel()
            await asyncio.gather(refreshing, stopping, return_exceptions=True)

    def draining(self) -> None:
        self._health.component("http-server").fail("draining")

    def _ops_application(self) -> OpsApplication:
        async def render() -> bytes:
            for name, healthy in self._health.states().items():
                self._metrics.gauge("uid2_component_health", int(healthy), component=name)
            if self._operator.core is not None:
                self._operator.core.sample()
            self._operator.sample_optouts()
            if self._operator.ready:
                await asyncio.to_thread(self._operator.store_metrics.sample, self._operator.context)
            elsewhere = () if self._serving is None else await self._serving.metric_states()
            return render_states(APPLICATION, [self._metrics.state(), *elsewhere])

        async def status() -> Mapping[str, Any]:
            return self.status()

        routes = (description_route(), self._evidence.route())
        return OpsApplication(self._health, render, status, self._ready, self._stop.set, routes)

    def _ready(self) -> bool:
        return self.started and self._serving is not None and self._serving.ready

    def status(self) -> dict[str, Any]:
        """The members of /ops/status."""
        stores = self._operator.stores.statuses.values()
        core = self._operator.core
        return {
            "version": self._version,
            "bulk_engine": engine_named(self._settings.bulk_engine).name,
            "identity_scope": self._settings.identity_scope.name,
            "ready": self._ready(),
            "workers": None if self._serving is None else self._serving.status(),
            "attested": core is not None and core.attestation.attested,
            "attestation": None if core is None else core.attestation.status(),
            "optouts": self._operator.optout_status(),
            "missing": [store.store for store in stores if not store.loaded],
            "stores": {
                store.store: {
                    "version": store.version,
                    "entries": store.entries,
                    "last_success_ms": store.last_success,
                    "problem": store.problem,
                }
                for store in stores
            },
        }
