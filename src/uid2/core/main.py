"""`uid2 core serve`: configuration ─▶ ops listener ─▶ first loads ─▶ service port ─▶ drain.

The service port opens even when the first loads fail: health answers 503 until they succeed (design, 11.12).
"""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from uid2.core.assembly import core_context
from uid2.core.metric_names import CoreMetrics
from uid2.core.routes import core_application
from uid2.core.settings import ACCEPTED, KEYS, CoreSettings, settings_of
from uid2.protocol.errors import Uid2Error
from uid2.service.clock import Clock, Entropy, SystemClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode, exit_code_of, run_main
from uid2.service.health import STILL_STARTING, Health
from uid2.service.logs import set_up_logs
from uid2.service.ops import OpsApplication
from uid2.service.server import HttpServer, bind_socket, event_loop_factory

DRAIN_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


def serve(config_path: Path | str | None, environ: Mapping[str, str] | None = None) -> int:
    """Runs Core in the foreground until a signal, a drain or an error; gives the exit code."""
    set_up_logs()
    environment = os.environ if environ is None else environ
    try:
        file = None if config_path is None else Path(config_path)
        settings = settings_of(load_configuration(KEYS, file, environment, accepted=ACCEPTED))
        loop_factory = event_loop_factory(settings.http_loop)
        core = CoreProgram(settings, environment.get("IMAGE_VERSION", "unknown"))
    except Uid2Error as error:
        code = exit_code_of(error)
        _log.critical(error.message, extra={"cause": error.code, "next_step": error.next_step, "exit_code": int(code)})
        return code
    return run_main(core.run(), loop_factory=loop_factory, has_started=lambda: core.started)


class CoreProgram:
    """One process: two listeners, one Core."""

    def __init__(
        self,
        settings: CoreSettings,
        version: str,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._settings = settings
        self._version = version
        self._clock = clock or SystemClock()
        self._metrics = CoreMetrics(self._clock)
        self._metrics.gauge("app_status", 1, version=version)
        self._health = Health()
        self._health.component("http-server").fail(STILL_STARTING)
        self._context = core_context(settings, self._clock, entropy or SystemEntropy(), self._metrics, self._health)
        self._stop = asyncio.Event()
        self.started = False

    async def run(self) -> int:
        """Everything from the ops listener to the drain."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._health.watch_pod(self._clock, settings.pod_termination_check_interval)
        ops = HttpServer(self._ops_application(), [bind_socket(settings.http_host, settings.ops_port)])
        await ops.start()
        try:
            await self._context.own.load()
            application = core_application(self._context, self._health)
            service = HttpServer(application, [bind_socket(settings.http_host, settings.service_port)])
            await service.start()
            self._health.component("http-server").recover()
            self.started = True
            _log.info("core serves on port %d", settings.service_port)
            await self._serve_until_stopped(service)
        finally:
            await ops.stop(1.0)
        _log.info("core has stopped")
        return ExitCode.NORMAL

    async def _serve_until_stopped(self, service: HttpServer) -> None:
        refreshing = asyncio.create_task(self._context.own.run())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((refreshing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if refreshing.done():
                refreshing.result()
        finally:
            self._health.component("http-server").fail("draining")
            await service.stop(DRAIN_SECONDS)
            for task in (refreshing, stopping):
                task.cancel()
            await asyncio.gather(refreshing, stopping, return_exceptions=True)

    def _ops_application(self) -> OpsApplication:
        async def render() -> bytes:
            for name, healthy in self._health.states().items():
                self._metrics.gauge("uid2_component_health", int(healthy), component=name)
            return self._metrics.render()

        async def status() -> Mapping[str, Any]:
            return self.status()

        return OpsApplication(self._health, render, status, lambda: self.started, self._stop.set)

    def status(self) -> dict[str, Any]:
        """The members of /ops/status."""
        stores = self._context.own.statuses.values()
        return {
            "version": self._version,
            "environment": self._settings.environment,
            "ready": self.started,
            "protocols": sorted(self._context.verifiers),
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
