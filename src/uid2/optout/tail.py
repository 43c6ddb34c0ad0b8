"""The live tail: opt-outs in the order of the queue, for operators that poll (design, 11.16).

A cursor names the log and the last number that its reader has seen. Whoever begins, or comes with a cursor that leads
nowhere, gets one from before everything that a listing of files may lack; it may thus meet opt-outs that it has
from files already, but never misses one.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

from uid2.optout.messages import OptOutMessage, QueuedMessage, UnusableMessageError
from uid2.optout.queue_log import QueueLog
from uid2.optout.recent import RecentMessages
from uid2.protocol.ids import EpochMillis

PAGE_ENTRIES: Final = 5000
LONGEST_WAIT_SECONDS: Final = 30.0
_CURSOR: Final = re.compile(r"([0-9a-f]{8,64})-([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class TailPage:
    """`messages` follow each other without a gap. `gap`: load the files, then go on with `cursor`."""

    cursor: str
    gap: bool = False
    messages: tuple[QueuedMessage, ...] = ()


@final
class Tail:
    """`settle_ms`: how long after production a message may still be missing from a listing of files."""

    def __init__(
        self,
        log: QueueLog,
        recent: RecentMessages,
        settle_ms: int,
        now: Callable[[], EpochMillis],
        denied: Callable[[QueuedMessage], bool] = lambda _: False,
    ) -> None:
        self._log = log
        self._recent = recent
        self._settle_ms = settle_ms
        self._now = now
        self._denied = denied
        self._told = log.last
        self._changed = asyncio.Event()
        self._stopping = False

    def reached(self, number: int) -> None:
        """Every message up to `number` is there, whoever read it first; called on the event loop."""
        if number > self._told:
            self._told = number
            self._wake()

    def stop(self) -> None:
        """Nobody waits any longer."""
        self._stopping = True
        self._wake()

    async def page(self, after: str | None, wait_seconds: float) -> TailPage:
        """What follows a cursor, at once when there is something, else when it comes or the time is over."""
        number = None if after is None else self._number(after)
        if number is None:
            return TailPage(await asyncio.to_thread(self._first_cursor), gap=after is not None)
        loop = asyncio.get_running_loop()
        end = loop.time() + min(max(wait_seconds, 0.0), LONGEST_WAIT_SECONDS)
        while True:
            changed = self._changed
            found = self._recent.after(number, PAGE_ENTRIES)
            if found is None:
                found = await asyncio.to_thread(self._from_disk, number)
            if found is None:
                return TailPage(await asyncio.to_thread(self._first_cursor), gap=True)
            if found:
                number = found[-1].number
                found = [message for message in found if not self._denied(message)]
            left = end - loop.time()
            if found or left <= 0 or self._stopping:
                return TailPage(self._cursor(number), messages=tuple(found))
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                continue

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _number(self, cursor: str) -> int | None:
        found = _CURSOR.fullmatch(cursor)
        if found is None or found[1] != self._log.id:
            return None
        number = int(found[2])
        return number if number <= self._log.last else None

    def _from_disk(self, number: int) -> list[QueuedMessage] | None:
        if number + 1 < self._log.oldest:
            return None
        found = []
        for record in islice(self._log.records_after(number), PAGE_ENTRIES):
            try:
                message = OptOutMessage.decode(record.body)
            except UnusableMessageError:
                continue
            found.append(QueuedMessage(record.number, EpochMillis(record.sent), message))
        # A segment that went while it was read would leave a hole.
        return None if number + 1 < self._log.oldest else found

    def _first_cursor(self) -> str:
        progress = self._log.progress()
        return self._cursor(max(progress.settled(self._now() - self._settle_ms), self._log.oldest - 1))

    def _cursor(self, number: int) -> str:
        return f"{self._log.id}-{number}"
