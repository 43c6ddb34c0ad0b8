"""TCP paths that fail on purpose: each relays a port of its own to one of several targets.

A connection may be held up, be cut after some bytes in either direction, or lead nowhere while its path is partitioned.
All paths run on one event loop in a thread; the random numbers are those of the campaign.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances of a connection: to be held up for at most `delay_seconds`, to be cut after at most `cut_bytes`."""

    delay: float = 0.0
    delay_seconds: float = 0.3
    cut: float = 0.0
    cut_bytes: int = 3000


CALM = Weather()


class FaultyPath:
    """Listens on `port`. `weather` and `partitioned` count for new connections; `sever` ends those that stand."""

    def __init__(self, targets: Sequence[int], random: Random) -> None:
        self.targets = tuple(targets)
        self.weather = CALM
        self.partitioned = False
        self.port = 0
        self._random = random
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.sever()

    async def sever(self) -> None:
        """Reset every connection that stands."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError, _CutError):
            reset(writer)
        finally:
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        weather, random = self.weather, self._random
        if self.partitioned:
            # Half of them hear nothing for a while, the others are refused.
            await asyncio.sleep(random.choice((0.0, random.uniform(0.2, 2.0))))
            raise _CutError
        if random.random() < weather.delay:
            await asyncio.sleep(random.uniform(0, weather.delay_seconds))
        to, back = await self._connected(random)
        budget = _Budget()
        if random.random() < weather.cut:
            budget.left[random.randrange(2)] = random.randrange(1, weather.cut_bytes)
        try:
            await _first_of(_copy(reader, back, budget, 0), _copy(to, writer, budget, 1))
        finally:
            reset(back)
        writer.close()

    async def _connected(self, random: Random) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As a load balancer: another target where one refuses."""
        for target in random.sample(self.targets, len(self.targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", target)
        raise _CutError


class Paths:
    """The paths of one stage, and the thread of their loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty paths", daemon=True)
        self._thread.start()
        self.all: list[FaultyPath] = []

    def add(self, targets: Sequence[int], random: Random) -> FaultyPath:
        path = FaultyPath(targets, random)
        self.run(path.open())
        self.all.append(path)
        return path

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        for path in self.all:
            self.run(path.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def opened_paths() -> Iterator[Paths]:
    paths = Paths()
    try:
        yield paths
    finally:
        paths.close()


class _CutError(Exception):
    """The connection ends here."""


class _Budget:
    """Bytes that may still pass: to the target, and back."""

    def __init__(self) -> None:
        self.left: list[int | None] = [None, None]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: _Budget, way: int) -> None:
    while data := await reader.read(CHUNK):
        left = budget.left[way]
        if left is not None:
            budget.left[way] = left - len(data)
            if left < len(data):
                writer.write(data[:left])
                await writer.drain()
                raise _CutError
        writer.write(data)
        await writer.drain()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Until one ends: HTTP peers close a connection whole."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an end."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.close()
