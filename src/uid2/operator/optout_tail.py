"""Follows the live tail of the opt-out service (design, 6 and 11.16).

cursor ─▶ files ─▶ pages in order ─▶ …          a gap: files again, then on from the fresh cursor
                                                no answer: a pause with jitter, then the same cursor again
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Final, final

from uid2.operator.optout_service import Entry, OptOutService, TailPage
from uid2.protocol.errors import DependencyError, Uid2Error
from uid2.service.clock import Clock, Entropy

WAIT_SECONDS: Final = 25
# Opt-outs that follow each other this closely are taken together from then on; one that comes alone does not wait.
CLOSE_SECONDS: Final = 0.01
GATHER_SECONDS: Final = 0.03
# Where the service has no live tail: how long until it is asked again.
UNSUPPORTED_SECONDS: Final = 300.0
_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)
_BYTES: Final = 4

_log: Final = logging.getLogger(__name__)


@final
class OptOutTail:
    """`refresh` loads the files, True when that worked; `take` honours entries from now on. Both on the event loop."""

    def __init__(
        self,
        service: OptOutService,
        refresh: Callable[[], Awaitable[bool]],
        take: Callable[[tuple[Entry, ...]], Awaitable[None]],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._service = service
        self._refresh = refresh
        self._take = take
        self._clock = clock
        self._entropy = entropy
        self._cursor: str | None = None
        self._failures = 0
        self._answered: float | None = None
        self.supported: bool | None = None

    def begin(self) -> str | None:
        """The cursor before the first load of files, so that nothing falls between the two. Blocks."""
        try:
            page = self._service.page(None, 0)
        except DependencyError as error:
            _log.error("the live tail of opt-outs cannot be reached: %s", error.message)
            return None
        self.supported = page is not None
        return None if page is None else page.cursor

    def catch_up(self, cursor: str | None) -> tuple[Entry, ...]:
        """Everything that follows `cursor` up to now; from there `run` goes on. Blocks."""
        entries: list[Entry] = []
        try:
            while cursor is not None:
                page = self._service.page(cursor, 0)
                if page is None or page.gap:
                    return tuple(entries)
                entries += page.entries
                self._cursor = cursor = page.cursor
                if not page.entries:
                    self._answered = self._clock.monotonic()
                    break
        except DependencyError as error:
            _log.error("the live tail of opt-outs cannot be reached: %s", error.message)
        return tuple(entries)

    def pauses(self) -> Iterator[float]:
        """Between attempts at the first load of files: whoever starts serves nobody meanwhile."""
        return (self._pause_after(failures) for failures in count())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(await self.step())

    async def step(self) -> float:
        """One page; the seconds until the next."""
        try:
            page = await self._asked()
        except Uid2Error as error:
            return self._failed(error)
        self.supported = page is not None
        if page is None:
            return UNSUPPORTED_SECONDS
        if self._failures:
            _log.info("the live tail of opt-outs is back after %d failures", self._failures)
        before, self._failures, self._answered = self._answered, 0, self._clock.monotonic()
        close = before is not None and self._answered - before < CLOSE_SECONDS
        gathering = GATHER_SECONDS if len(page.entries) > (0 if close else 1) else 0.0
        return await self._follow(page) or gathering

    async def _asked(self) -> TailPage | None:
        """The next page. A call waits for long: a thread of its own holds up neither other work nor the end."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[TailPage | None] = loop.create_future()

        def tell(page: TailPage | None, error: Exception | None) -> None:
            if not answer.done():
                if error is None:
                    answer.set_result(page)
                else:
                    answer.set_exception(error)

        def ask() -> None:
            page, failure = None, None
            try:
                page = self._service.page(self._cursor, WAIT_SECONDS)
            except Exception as error:  # noqa: BLE001 - it is raised where the page is awaited
                failure = error
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, page, failure)

        threading.Thread(target=ask, name="optout-tail", daemon=True).start()
        return await answer

    def status(self) -> dict[str, object]:
        """The member `tail` of /ops/status."""
        answered = self._answered
        return {
            "supported": self.supported,
            "failures": self._failures,
            "answered_seconds_ago": None if answered is None else int(self._clock.monotonic() - answered),
        }

    async def _follow(self, page: TailPage) -> float:
        if self._cursor is None or page.gap:
            if page.gap:
                _log.warning("there is a gap in the live tail of opt-outs: the files are loaded again")
            # The cursor counts only once the files before it are indexed.
            if not await self._refresh():
                return self._pause_after(self._failures)
        else:
            await self._take(page.entries)
        self._cursor = page.cursor
        return 0.0

    def _failed(self, error: Uid2Error) -> float:
        self._failures += 1
        if self._failures == 1:
            _log.error(
                "the live tail of opt-outs failed, files are still refreshed: %s",
                error.message,
                extra={"next_step": error.next_step},
            )
        return self._pause_after(self._failures)

    def _pause_after(self, failures: int) -> float:
        longest = _PAUSES[min(failures, len(_PAUSES) - 1)]
        return longest * (0.5 + int.from_bytes(self._entropy.bytes(_BYTES), "big") / 2**33)
