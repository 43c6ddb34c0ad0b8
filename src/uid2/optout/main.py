"""`uid2 optout serve`: configuration ─▶ ops listener ─▶ first loads ─▶ service and control port ─▶ drain.

The service port opens even when the first loads fail: health answers 503 until they succeed (design, 11.12). With
`core_attest_url` the operator keys come from Core, which is asked again and again until it answers or refuses.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from uid2.corelink.link import CoreLink
from uid2.optout.assembly import optout_context
from uid2.optout.core_link import CoreStanding, core_link, stay_attested
from uid2.optout.metric_names import OptOutMetrics
from uid2.optout.routes import control_application, optout_application
from uid2.optout.settings import ACCEPTED, KEYS, OptOutSettings, settings_of
from uid2.protocol.errors import Uid2Error
from uid2.service.clock import Clock, Entropy, SystemClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode, exit_code_of, run_main
from uid2.service.health import STILL_STARTING, Health
from uid2.service.logs import set_up_logs
from uid2.service.ops import OpsApplication
from uid2.service.server import HttpServer, bind_socket, event_loop_factory

DRAIN_SECONDS: Final = 10.0
# What was taken last reaches the other machines before this one ends.
TAIL_SECONDS: Final = 5.0
# The port waits so long for the first loads.
FIRST_LOADS_SECONDS: Final = 10.0
# A turn of a replica may be as short as three rotation intervals.
PARTITION_LOOK_SECONDS: Final = 60

_log = logging.getLogger(__name__)


def serve(config_path: Path | str | None, environ: Mapping[str, str] | None = None) -> int:
    """Runs the opt-out service in the foreground until a signal, a drain or an error; gives the exit code."""
    set_up_logs()
    environment = os.environ if environ is None else environ
    try:
        file = None if config_path is None else Path(config_path)
        host = socket.gethostname() if "KUBERNETES_SERVICE_HOST" in environment else ""
        settings = settings_of(load_configuration(KEYS, file, environment, accepted=ACCEPTED), host)
        loop_factory = event_loop_factory(settings.http_loop)
        program = OptOutProgram(settings, environment.get("IMAGE_VERSION", "unknown"))
    except Uid2Error as error:
        code = exit_code_of(error)
        _log.critical(error.message, extra={"cause": error.code, "next_step": error.next_step, "exit_code": int(code)})
        return code
    return run_main(program.run(), loop_factory=loop_factory, has_started=lambda: program.started)


class OptOutProgram:
    """One process: service port, control port, ops port. Used once."""

    def __init__(
        self,
        settings: OptOutSettings,
        version: str,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        core_transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`core_transport` replaces the network to Core in tests."""
        self._settings = settings
        self._version = version
        self._clock = clock or SystemClock()
        self._metrics = OptOutMetrics(self._clock)
        self._metrics.gauge("app_status", 1, version=version)
        self._health = Health()
        self._health.component("http-server").fail(STILL_STARTING)
        entropy = entropy or SystemEntropy()
        self._core: CoreLink | None = None
        if settings.core_attest_url is not None:
            self._standing = CoreStanding(self._clock, self._metrics, self._health)
            self._core = core_link(settings, version, self._clock, entropy, self._standing, core_transport)
        self._context = optout_context(settings, self._clock, entropy, self._metrics, self._health, self._core)
        self._tasks: list[asyncio.Task[None]] = []
        self._first_loads: list[asyncio.Event] = []
        self._stop = asyncio.Event()
        self.started = False

    @property
    def ready(self) -> bool:
        """Whether callers are served: the port is open and the operator keys are there."""
        return self.started and self._context.keys.index is not None

    async def run(self) -> int:
        """Everything from the ops listener to the drain. AttestationRefusedError when Core has refused this service."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._health.watch_pod(self._clock, settings.pod_termination_check_interval)
        ops = HttpServer(self._ops_application(), [bind_socket(settings.http_host, settings.ops_port)])
        await ops.start()
        stopping = asyncio.create_task(self._stop.wait())
        servers: list[HttpServer] = []
        try:
            self._start_loading()
            await self._until_loaded(stopping)
            if not self._stop.is_set():
                await self._open_ports(servers)
                self._tasks += [asyncio.create_task(work) for work in self._background()]
                await self._first_of(stopping, *self._tasks)
        finally:
            stopping.cancel()
            await self._close(servers)
            await ops.stop(1.0)
        _log.info("the opt-out service has stopped")
        return ExitCode.NORMAL

    def _start_loading(self) -> None:
        """First loads, each followed by its refreshes; what comes from Core waits for an attestation."""
        context = self._context
        attested = asyncio.Event()
        if self._core is None:
            attested.set()
        else:
            self._tasks.append(asyncio.create_task(stay_attested(self._core.attestation, attested)))
        self._keep_current(attested, context.keys.load, context.keys.run)
        if context.partners is not None:
            listed = None if self._settings.partners_metadata_path is None else attested
            self._keep_current(listed, context.partners.load, context.partners.run)
        if context.shared is not None:
            self._keep_current(None, context.shared.merge, context.shared.run)
        seconds = self._settings.cloud_refresh_interval
        self._keep_current(None, context.files.refresh, lambda: context.files.run(seconds))

    def _keep_current(
        self,
        after: asyncio.Event | None,
        load: Callable[[], Awaitable[object]],
        run: Callable[[], Awaitable[None]],
    ) -> None:
        loaded = asyncio.Event()

        async def keep() -> None:
            if after is not None:
                await after.wait()
            await load()
            loaded.set()
            await run()

        self._first_loads.append(loaded)
        self._tasks.append(asyncio.create_task(keep()))

    async def _until_loaded(self, stopping: asyncio.Task[Any]) -> None:
        """One attempt at everything, or a stop, or the end of patience."""
        loading = asyncio.ensure_future(asyncio.gather(*(loaded.wait() for loaded in self._first_loads)))
        try:
            await self._first_of(loading, stopping, *self._tasks, timeout=FIRST_LOADS_SECONDS)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _first_of(self, *tasks: asyncio.Future[Any], timeout: float | None = None) -> None:
        """Waits for the first that ends; the error of one that failed is raised."""
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _open_ports(self, servers: list[HttpServer]) -> None:
        settings, context = self._settings, self._context
        if not settings.optout_observe_only:
            self._check_traffic_files()
            control = bind_socket(settings.http_host, settings.control_port)
            servers.append(HttpServer(control_application(context), [control]))
        service = bind_socket(settings.http_host, settings.service_port)
        servers.append(HttpServer(optout_application(context, self._health), [service]))
        for server in servers:
            await server.start()
        self._health.component("http-server").recover()
        self.started = True
        _log.info("the opt-out service serves on port %d", settings.service_port)

    async def _close(self, servers: list[HttpServer]) -> None:
        self._health.component("http-server").fail("draining")
        # Those who wait for new opt-outs are answered, so that nobody holds up the stop.
        self._context.tail.stop()
        await asyncio.gather(*(server.stop(DRAIN_SECONDS) for server in servers))
        if self._context.shared is not None:
            await self._context.shared.drain(TAIL_SECONDS)
        if self._core is not None:
            # A call that Core leaves without an answer ends now.
            self._core.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _background(self) -> list[Coroutine[Any, Any, None]]:
        settings, context = self._settings, self._context
        work = [context.queue.run()]
        if context.partitions is not None:
            self._health.component("partition-producer").recover()
            work.append(context.partitions.run(min(settings.cloud_refresh_interval, PARTITION_LOOK_SECONDS)))
        if context.forwarding is not None:
            work.append(context.forwarding.run())
        if settings.optout_produce_interval and not settings.optout_observe_only:
            work.append(context.producer.run_every(settings.optout_produce_interval))
        return work

    def _check_traffic_files(self) -> None:
        component = self._health.component("sqs-log-producer")
        try:
            self._context.producer.read_rules()
        except Uid2Error as error:
            component.fail(error.message)
            _log.error("circuit_breaker_config_error: %s", error.message, extra={"next_step": error.next_step})
        else:
            component.recover()

    def _ops_application(self) -> OpsApplication:
        async def render() -> bytes:
            for name, healthy in self._health.states().items():
                self._metrics.gauge("uid2_component_health", int(healthy), component=name)
            await self._sample()
            return self._metrics.render()

        return OpsApplication(self._health, render, self.status, lambda: self.ready, self._stop.set)

    async def _sample(self) -> None:
        context = self._context
        if self._core is not None:
            self._standing.sample(self._core.attestation)
        try:
            self._metrics.gauge("uid2_optout_queue_waiting", await context.queue.size())
        except Uid2Error as error:
            _log.warning("the length of the queue is unknown: %s", error.message)
        if context.shared is not None:
            self._metrics.gauge("uid2_optout_tail_unsent", context.shared.unsent)
        halt = await context.producer.halt()
        self._metrics.gauge("uid2_optout_halted", int(halt is not None))
        self._metrics.gauge("uid2_optout_halted_since", 0 if halt is None else halt.since or 0)
        if context.files.listed_at is not None:
            self._metrics.gauge("uid2_optout_last_listing", context.files.listed_at // 1000)
        if context.files.files:
            self._metrics.gauge("uid2_optout_newest_file", context.files.files[-1].created)

    async def _queue_status(self) -> dict[str, Any]:
        """How many opt-outs wait for a file, and since when production is halted, if it is."""
        halt = await self._context.producer.halt()
        try:
            waiting: int | None = await self._context.queue.size()
        except Uid2Error:
            waiting = None
        return {
            "waiting": waiting,
            "halted": halt is not None,
            "halted_since": None if halt is None else halt.since,
            "halted_because": None if halt is None else halt.reason,
        }

    async def status(self) -> dict[str, Any]:
        """The members of /ops/status."""
        context, now = self._context, self._clock.now_ms()
        stores = [context.keys.status] + ([] if context.partners is None else [context.partners.status])
        files = context.files
        listed = files.listed_at
        return {
            "version": self._version,
            "environment": self._settings.environment,
            "ready": self.ready,
            "attestation": None if self._core is None else self._core.attestation.status(),
            "stores": {
                store.store: {
                    "version": store.version,
                    "entries": store.entries,
                    "last_success_ms": store.last_success,
                    "problem": store.problem,
                }
                for store in stores
            },
            "files": {
                "listed": None if files.files is None else len(files.files),
                "listed_seconds_ago": None if listed is None else max(0, (now - listed) // 1000),
                "newest": files.files[-1].created if files.files else None,
                "problem": files.problem,
            },
            "tail": None if context.shared is None else context.shared.status(),
            "production": context.producer.status(),
            "queue": await self._queue_status(),
            "partitions": None if context.partitions is None else {"problem": context.partitions.problem},
            "partners": [] if context.forwarding is None else context.forwarding.status(),
        }
