"""The supervisor: starts workers, keeps their number, spreads what they must know, stops them in order.

A worker's life: spawned ▶ hello ▶ prepared (state handed over) ▶ backlog (what was spread meanwhile) ▶ serving.
A worker that is not serving yet gets what is spread before it serves, so nothing that was confirmed is missing in it.
A worker's end shows as the end of its control channel; it is then collected (killed where it lingers) and replaced.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from uid2.service.channel import Channel, ChannelError

CONFIRM_SECONDS: Final = 1.0
FIRST_DELAY: Final = 0.1
GREATEST_DELAY: Final = 10.0
# A worker that lived this long did not die of its start.
SETTLED_SECONDS: Final = 10.0
# How long a worker without a channel may take to end by itself.
LAST_SECONDS: Final = 1.0
_REAP_POLL_SECONDS: Final = 0.01

Prepare = Callable[[Channel], Awaitable[None]]
WorkerRequestHandler = Callable[[Any], Awaitable[Any]]

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _WorkerProcess:
    index: int
    pid: int
    channel: Channel
    started: float
    serving: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    backlog: list[tuple[str, Any]] = field(default_factory=list)

    def kill(self) -> None:
        """Only while the process is uncollected: afterwards its number may be another's."""
        if not self.gone.is_set():
            os.kill(self.pid, signal.SIGKILL)

    async def collected(self) -> int:
        """The wait status. The channel is closed: the process is at its end, or has lost its use and is killed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LAST_SECONDS
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.gone.set()
                return status
            if loop.time() > end:
                self.kill()
            await asyncio.sleep(_REAP_POLL_SECONDS)


async def _prepare_nothing(_: Channel) -> None:
    return None


class Supervisor:
    """`program` is `module:function` (see the worker module); `sockets` are bound, listening and stay ours."""

    def __init__(
        self,
        program: str,
        count: int,
        sockets: Sequence[socket.socket],
        *,
        prepare: Prepare = _prepare_nothing,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if count < 1:
            raise ValueError("a supervisor needs at least one worker")
        self._program = program
        self._count = count
        self._sockets = list(sockets)
        self._prepare = prepare
        self._environ = dict(os.environ if environ is None else environ)
        self._handlers: dict[str, WorkerRequestHandler] = {}
        self._workers: dict[int, _WorkerProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.replaced = 0

    def on(self, name: str, handler: WorkerRequestHandler) -> None:
        """Handles a request of any worker."""
        self._handlers[name] = handler

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers.values())

    @property
    def ready_workers(self) -> int:
        return sum(worker.ready.is_set() for worker in self._workers.values())

    async def start(self) -> None:
        """Returns when the full number of workers has been ready at once."""
        for index in range(self._count):
            self._keepers.append(asyncio.create_task(self._keep(index), name=f"worker {index}"))
        while self.ready_workers < self._count:
            waits = [asyncio.ensure_future(worker.ready.wait()) for worker in self._workers.values()]
            done, pending = await asyncio.wait([*waits, *self._keepers], timeout=0.1, return_when="FIRST_COMPLETED")
            for wait in pending & set(waits):
                wait.cancel()
            for keeper in self._keepers:
                if keeper in done:
                    keeper.result()
            await asyncio.sleep(0.01)

    async def spread(self, name: str, payload: Any, seconds: float = CONFIRM_SECONDS) -> None:
        """Returns when every worker that serves has confirmed, or is dead; those that do not confirm are killed."""
        serving = []
        for worker in list(self._workers.values()):
            # One whose channel has ended may still answer requests for a moment: it is ended here and now.
            if worker.serving or worker.channel.closed.is_set():
                serving.append(worker)
            else:
                worker.backlog.append((name, payload))
        await asyncio.gather(*(self._confirm(worker, name, payload, seconds) for worker in serving))

    async def collect(self, name: str, payload: Any = None, seconds: float = CONFIRM_SECONDS) -> list[Any]:
        """The answers of the workers that answer in time (metrics, status); nobody is killed for being late."""

        async def ask(worker: _WorkerProcess) -> Any:
            try:
                return await worker.channel.request(name, payload, seconds)
            except ChannelError:
                return None

        serving = [worker for worker in self._workers.values() if worker.serving]
        return [answer for answer in await asyncio.gather(*map(ask, serving)) if answer is not None]

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Asks the workers to finish, kills the rest after the grace time, collects all."""
        self._stopping = True
        workers = list(self._workers.values())

        async def finish(worker: _WorkerProcess) -> None:
            try:
                async with asyncio.timeout(grace_seconds + 2):
                    await worker.channel.request("stop", {"grace_seconds": grace_seconds})
                    await worker.gone.wait()
            except (TimeoutError, ChannelError):
                worker.kill()

        await asyncio.gather(*map(finish, workers))
        await asyncio.gather(*(worker.gone.wait() for worker in workers))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _confirm(self, worker: _WorkerProcess, name: str, payload: Any, seconds: float) -> None:
        try:
            await worker.channel.request(name, payload, seconds)
        except ChannelError as error:
            _log.error("a worker is replaced", extra={"worker": worker.index, "control": name, "cause": error.message})
            worker.kill()
            await worker.gone.wait()

    async def _keep(self, index: int) -> None:
        """Keeps one place filled, each death answered with a longer pause until a worker has settled."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while not self._stopping:
            try:
                worker = self._spawn(index)
            except OSError as error:
                _log.error("a worker could not be started", extra={"worker": index, "cause": error.strerror})
                await asyncio.sleep(delay)
                delay = min(delay * 2, GREATEST_DELAY)
                continue
            self._workers[index] = worker
            welcoming = asyncio.create_task(self._open(worker))
            await worker.channel.closed.wait()
            welcoming.cancel()
            worker.serving = False
            worker.ready.clear()
            status = await worker.collected()
            del self._workers[index]
            if self._stopping:
                return
            delay = FIRST_DELAY if loop.time() - worker.started > SETTLED_SECONDS else delay
            _log.error(
                "a worker ended",
                extra={"worker": index, "exit_status": os.waitstatus_to_exitcode(status), "restart_in_seconds": delay},
            )
            self.replaced += 1
            await asyncio.sleep(delay)
            delay = min(delay * 2, GREATEST_DELAY)

    async def _open(self, worker: _WorkerProcess) -> None:
        channel = worker.channel

        async def hello(_: Any) -> None:
            # Answered at once; the hand-over goes on beside it.
            worker_tasks.append(asyncio.create_task(self._welcome(worker)))

        async def ready(_: Any) -> None:
            worker.ready.set()

        worker_tasks: list[asyncio.Task[None]] = []
        for name, handler in self._handlers.items():
            channel.on(name, handler)
        channel.on("hello", hello)
        channel.on("ready", ready)
        await channel.open()
        await channel.closed.wait()

    async def _welcome(self, worker: _WorkerProcess) -> None:
        try:
            await self._prepare(worker.channel)
            while worker.backlog:
                await worker.channel.request(*worker.backlog.pop(0))
            worker.serving = True
            await worker.channel.request("serve")
        except Exception as error:  # noqa: BLE001 - a worker without its state must not serve
            _log.error("a worker could not be prepared", extra={"worker": worker.index, "cause": type(error).__name__})
            worker.kill()

    def _spawn(self, index: int) -> _WorkerProcess:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        sources = [theirs.fileno(), *(listener.fileno() for listener in self._sockets)]
        # Above every source, so that no copy overwrites a descriptor that is still to be copied.
        first = max(sources) + 1
        targets = range(first, first + len(sources))
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "uid2.service.worker", self._program, str(index), *map(str, targets)],
                self._environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, source, target) for source, target in zip(sources, targets, strict=True)
                ],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
                setsigmask=[],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return _WorkerProcess(index, pid, Channel(ours), asyncio.get_running_loop().time())
