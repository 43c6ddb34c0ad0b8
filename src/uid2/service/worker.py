"""A worker process: `python -m uid2.service.worker MODULE:FUNCTION INDEX CONTROL_FD LISTEN_FD…`.

The function is `async def f(worker: Worker) -> None`. It registers its handlers, awaits `worker.join()` (the
supervisor hands over state meanwhile), serves on `worker.sockets`, tells `worker.ready()`, and returns when
`worker.stopping` is set: the supervisor asked for it or is gone.
"""

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from uid2.service.channel import Channel, ChannelHandler
from uid2.service.exits import ExitCode, run_main
from uid2.service.logs import set_up_logs
from uid2.service.server import event_loop_factory

ORPHAN_SECONDS: Final = 15.0

WorkerProgram = Callable[["Worker"], Awaitable[None]]


class Worker:
    """What a program in a worker process is given."""

    def __init__(self, index: int, channel: Channel, sockets: list[socket.socket]) -> None:
        self.index = index
        self.sockets = sockets
        self.stopping = asyncio.Event()
        self.grace_seconds = 10.0
        self.orphaned = False
        self._channel = channel
        self._may_serve = asyncio.Event()
        channel.on("serve", self._serve)
        channel.on("stop", self._stop)

    def on(self, name: str, handler: ChannelHandler) -> None:
        self._channel.on(name, handler)

    async def request(self, name: str, payload: Any = None, timeout: float | None = None) -> Any:
        return await self._channel.request(name, payload, timeout)

    async def join(self) -> None:
        """Returns when the supervisor has handed over its state."""
        await self._channel.open()
        await self._channel.request("hello", {"pid": os.getpid()})
        await self._may_serve.wait()

    async def ready(self) -> None:
        """Tells the supervisor that this worker answers requests."""
        await self._channel.request("ready")

    async def watch(self) -> None:
        """Stops the worker when the supervisor is gone; ends the process if it does not stop in time."""
        await self._channel.closed.wait()
        self.orphaned = True
        self.stopping.set()
        self._may_serve.set()
        await asyncio.sleep(ORPHAN_SECONDS)
        os._exit(ExitCode.FAILURE)

    async def _serve(self, _: Any) -> None:
        self._may_serve.set()

    async def _stop(self, payload: Any) -> None:
        self.grace_seconds = float(payload["grace_seconds"])
        self.stopping.set()


async def run_worker(program: WorkerProgram, index: int, control: int, listening: list[int]) -> int:
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    end = socket.socket(fileno=control)
    for inherited in (end, *sockets):
        # A child of this process must not keep the channel open: its end is how death is noticed.
        inherited.set_inheritable(False)
        inherited.setblocking(False)
    worker = Worker(index, Channel(end), sockets)
    loop = asyncio.get_running_loop()
    # A terminal sends its interrupt to the whole group; the supervisor says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, worker.stopping.set)
    watching = asyncio.ensure_future(worker.watch())
    try:
        await program(worker)
    finally:
        watching.cancel()
    return ExitCode.NORMAL


def program_named(name: str) -> WorkerProgram:
    module, _, function = name.partition(":")
    return cast(WorkerProgram, getattr(importlib.import_module(module), function))


def main(arguments: list[str]) -> int:
    program, index, control, *listening = arguments
    set_up_logs(worker=int(index))
    return run_main(
        run_worker(program_named(program), int(index), int(control), [int(fd) for fd in listening]),
        loop_factory=event_loop_factory(os.environ.get("http_loop")),  # noqa: SIM112 - the key's name
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
