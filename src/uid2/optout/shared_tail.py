"""The live tail where a queue gives no order of its own, or where several machines take opt-outs for one bucket.

taken here ─────────────▶ log of this machine ─▶ live tail          own opt-outs ─▶ object in the bucket
objects of others ──────▶ log of this machine ─▶ live tail          twice a second

Each opt-out is in the log once, by its mark. Cursors refer to the log, which is on the disk, so that readers may be as
slow as they like. Once files have held an opt-out for long enough, the objects with it are deleted, last by anyone.
What does not get into an object, because a process ended or the store was away, reaches operators by files.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, final

from uid2.optout.claims import ClaimBook
from uid2.optout.durable_files import locked
from uid2.optout.messages import OptOutMessage, QueuedMessage, UnusableMessageError
from uid2.optout.queue_log import QueueLog
from uid2.optout.queue_progress import write_progress
from uid2.optout.queue_records import Record
from uid2.optout.tail_objects import TailObjects
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis

MERGE_SECONDS: Final = 0.5
# At most five objects a second are written, whatever comes.
GATHER_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 20.0
DRAIN_STEP_SECONDS: Final = 0.05
LARGEST_BATCH: Final = 1000
MOST_WAITING: Final = 100_000
# Longer than an operator takes to come back; foreign objects stay as long, so that their writer deletes them first.
KEPT_MS: Final = 3600 * 1000

_log = logging.getLogger(__name__)


@final
class SharedTail:
    """`objects` is None where no other machine is to be told; `paths` are the listed files of the bucket.

    `denied` opt-outs are told to nobody. `reached` is called on the event loop with a number up to which every record
    of the log is there.
    """

    def __init__(
        self,
        log: QueueLog,
        objects: TailObjects | None,
        claims: ClaimBook,
        paths: Callable[[], Collection[str]],
        settle_ms: int,
        now: Callable[[], EpochMillis],
        denied: Callable[[QueuedMessage], bool],
        reached: Callable[[int], None],
    ) -> None:
        self._log = log
        self._objects = objects
        self._claims = claims
        self._paths = paths
        self._settle_ms = settle_ms
        self._now = now
        self._denied = denied
        self._reached = reached
        self._taken: list[QueuedMessage] = []
        self._unsent: list[Record] = []
        self._wake_log, self._wake_objects = asyncio.Event(), asyncio.Event()
        self._merging, self._settling = asyncio.Lock(), asyncio.Lock()
        # The highest number in the log of the records of an object.
        self._own: dict[str, int] = {}
        self._foreign: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._busy = 0
        self._read = 0

    def knows(self, mark: bytes) -> bool:
        """Whether some instance has taken this attempt."""
        return self._log.knows(mark)

    def take(self, messages: Sequence[QueuedMessage]) -> None:
        """Opt-outs that are durable elsewhere. On the event loop; never fails."""
        self._add(self._taken, [message for message in messages if not self._denied(message)])
        self._wake_log.set()

    async def merge(self) -> bool:
        """One round of reading what others have written; whether it succeeded."""
        async with self._merging:
            good = await self._try("read", self._merge)
        self._reached(self._read)
        return good

    async def settle(self) -> bool:
        """One round of finding out what is in files, and of deleting what nobody needs any more."""
        async with self._settling:
            return await self._try("settle", self._settle)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._log_on(), name="opt-out tail log")
            tasks.create_task(self._every(MERGE_SECONDS, self.merge), name="opt-out tail reader")
            tasks.create_task(self._every(SETTLE_SECONDS, self.settle), name="opt-out tail settling")
            if self._objects is not None:
                tasks.create_task(self._send_on(self._objects), name="opt-out tail writer")

    @property
    def unsent(self) -> int:
        """Opt-outs that were taken here and that other machines cannot see yet."""
        return len(self._taken) + len(self._unsent) + self._busy

    async def drain(self, seconds: float) -> None:
        """Until everything taken is with the others, or the time is over."""
        end = asyncio.get_running_loop().time() + seconds
        while self.unsent and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(DRAIN_STEP_SECONDS)

    def status(self) -> dict[str, Any]:
        """For /ops/status."""
        return {
            "shared": self._objects is not None,
            "last": self._log.last,
            "unsent": self.unsent,
            "objects": len(self._own) + len(self._foreign),
            "problems": sorted(self._problems.values()),
        }

    async def _log_on(self) -> None:
        while True:
            await self._wake_log.wait()
            self._wake_log.clear()
            while self._taken:
                batch, self._taken = self._taken[:LARGEST_BATCH], self._taken[LARGEST_BATCH:]
                fresh: list[Record] = []
                self._busy += len(batch)
                while not await self._try("write", partial(self._write, batch, fresh)):
                    await asyncio.sleep(RETRY_SECONDS)
                self._busy -= len(batch)
                self._reached(max((record.number for record in fresh), default=0))
                if self._objects is not None:
                    self._add(self._unsent, fresh)
                    self._wake_objects.set()

    async def _send_on(self, objects: TailObjects) -> None:
        while True:
            await self._wake_objects.wait()
            self._wake_objects.clear()
            while self._unsent:
                batch, self._unsent = self._unsent[:LARGEST_BATCH], self._unsent[LARGEST_BATCH:]
                self._busy += len(batch)
                while not await self._try("send", partial(self._send, objects, batch)):
                    await asyncio.sleep(RETRY_SECONDS)
                self._busy -= len(batch)
                await asyncio.sleep(GATHER_SECONDS)

    async def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)

    async def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Whether it succeeded. A failure is logged once, until it is another one or is over."""
        try:
            await asyncio.to_thread(work)
        except Uid2Error as error:
            if self._problems.get(what) != error.message:
                _log.error("the shared tail of opt-outs: %s", error.message, extra={"next_step": error.next_step})
            self._problems[what] = error.message
            return False
        self._problems.pop(what, None)
        return True

    def _add(self, waiting: list[Any], more: Sequence[Any]) -> None:
        waiting += more
        surplus = len(waiting) - MOST_WAITING
        if surplus > 0:
            _log.error("%d opt-outs reach the live tail of other machines by files only", surplus)
            del waiting[:surplus]

    def _write(self, batch: Sequence[QueuedMessage], fresh: list[Record]) -> None:
        """Append to the log. `fresh` gets the records that were not there yet."""
        before = self._log.last
        numbers = self._log.append_sent([(message.named, message.sent) for message in batch])
        known = set[int]()
        for message, number in zip(batch, numbers, strict=True):
            if number > before and number not in known:
                known.add(number)
                fresh.append(Record(number, message.sent, message.named.encode()))

    def _send(self, objects: TailObjects, batch: Sequence[Record]) -> None:
        self._own[objects.write(batch)] = batch[-1].number

    def _merge(self) -> None:
        self._read = self._log.refresh()
        if self._objects is None:
            return
        for path, records in self._objects.fresh():
            messages = []
            for record in records:
                try:
                    messages.append((OptOutMessage.decode(record.body), record.sent))
                except UnusableMessageError:
                    _log.error("%s holds a record without an opt-out, which is passed over", path)
            numbers = self._log.append_sent(messages)
            self._read = max([self._read, *numbers])
            # One without a record goes with what was there when it was read.
            self._foreign[path] = max(numbers, default=max(1, self._log.last))

    def _settle(self) -> None:
        self._claims.refresh()
        self._claims.seen(self._paths())
        # One process of those that share the log is enough.
        with locked(self._log.folder / "settle.lock", wait=False) as mine:
            if mine:
                self._advance()
        progress, now = self._log.progress(), self._now()
        for objects, until in ((self._own, now - self._settle_ms), (self._foreign, now - self._settle_ms - KEPT_MS)):
            settled = progress.settled(until)
            for path in [path for path, number in list(objects.items()) if number <= settled]:
                if self._objects is not None:
                    self._objects.delete(path)
                del objects[path]

    def _advance(self) -> None:
        progress = self._log.progress()
        horizon_ms = self._claims.horizon * 1000
        known, done = [], []
        for record in self._log.records_after(progress.upto):
            known.append(record.number)
            if not progress.done(record.number) and (record.sent < horizon_ms or self._in_file(record)):
                done.append(record.number)
        progress = progress.with_done(done, known, self._now())
        write_progress(self._log.folder, progress)
        self._log.drop_until(progress.settled(self._now() - self._settle_ms - KEPT_MS))

    def _in_file(self, record: Record) -> bool:
        try:
            mark = OptOutMessage.decode(record.body).mark
        except UnusableMessageError:
            return True
        return mark is not None and self._claims.finished(mark)
