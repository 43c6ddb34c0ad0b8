"""The bulk lane: long work leaves the event loop, so that token calls stay fast (design: two lanes).

Work up to a few kilobytes runs at once. Anything larger waits in order for one of the threads, bounded by bytes and
by time; what does not fit is refused with BusyError (429). What a request has yet to do once it was let in (`finish`)
waits too, but is never refused: its costly part is done.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from uid2.protocol.errors import BusyError

INLINE_BYTES: Final = 4096
# Sealing and base64 take about a microsecond a kilobyte: less than a change of threads up to here.
INLINE_SEALED_BYTES: Final = 1 << 16
MOST_WAITING: Final = 512
# On a machine whose cores are all busy the loop is woken at once, and bulk threads share what is left.
BULK_NICENESS: Final = 10
# What a token call may wait between two long native calls of a bulk thread; the platform's own is ten times that.
SWITCH_SECONDS: Final = 0.0005

T = TypeVar("T")


class Lanes:
    """One bounded queue in front of `threads` threads."""

    def __init__(self, threads: int, queue_bytes: int, queue_seconds: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bulk", initializer=_step_back)
        self._places = asyncio.Semaphore(threads)
        self._queue_bytes = queue_bytes
        self._queue_seconds = queue_seconds
        self._waiting = 0
        self._bytes = 0

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, whose input has `size` bytes; BusyError when the queue is full or too slow."""
        if size <= INLINE_BYTES:
            return work()
        if self._waiting >= MOST_WAITING or self._bytes + size > self._queue_bytes:
            raise _busy()
        self._waiting += 1
        self._bytes += size
        try:
            try:
                await asyncio.wait_for(self._places.acquire(), self._queue_seconds)
            except TimeoutError:
                raise _busy() from None
            return await self._run_in_place(work)
        finally:
            self._waiting -= 1
            self._bytes -= size

    async def finish(self, size: int, work: Callable[[], T]) -> T:
        """The result of sealing or opening `size` bytes for a request that was let in."""
        if size <= INLINE_SEALED_BYTES:
            return work()
        await self._places.acquire()
        return await self._run_in_place(work)

    def close(self) -> None:
        """Ends the threads once their work is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run_in_place(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._places.release()


def favour_the_loop() -> None:
    """For the whole process: threads of bulk work hand the interpreter over soon."""
    sys.setswitchinterval(SWITCH_SECONDS)


def _step_back() -> None:
    # Linux keeps a niceness for each thread; a LibOS may have none.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BULK_NICENESS)


def _busy() -> BusyError:
    return BusyError("too many large requests are waiting; try again shortly")
