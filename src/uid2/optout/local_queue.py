"""The local queue as the service uses it: many callers share one write and one fsync; production reads in order."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

import msgspec

from uid2.optout.durable_files import locked, replace_file, sync_folder
from uid2.optout.messages import OptOutMessage, QueuedMessage, UnusableMessageError
from uid2.optout.queue import RECEIVE_SIZE, Batch, WritePlan
from uid2.optout.queue_log import QueueLog
from uid2.optout.queue_progress import Progress, write_progress
from uid2.optout.queue_records import Record
from uid2.protocol.errors import StoreFormatError, StoreUnavailableError, Uid2Error
from uid2.protocol.ids import EpochMillis

FOLLOW_SECONDS: Final = 0.05
LARGEST_BATCH: Final = 1000
# Longer than any caller repeats an attempt, and than any operator takes to come back to the tail.
KEPT_MS: Final = 3600 * 1000
PLAN_FILE: Final = "plan.json"

_log = logging.getLogger(__name__)


@final
class LocalQueue:
    """`run` writes and follows until cancelled.

    Both are called on the event loop: `reached` with a number up to which every message is there, whoever sent it,
    `taken` with messages that are durable now.
    """

    def __init__(
        self,
        log: QueueLog,
        now: Callable[[], EpochMillis],
        reached: Callable[[int], None] = lambda _: None,
        taken: Callable[[Sequence[QueuedMessage]], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._now = now
        self._reached = reached
        self._taken = taken
        self._waiting: list[tuple[OptOutMessage, asyncio.Future[int]]] = []
        self._wake = asyncio.Event()

    async def send(self, message: OptOutMessage) -> int:
        """The number of the message, which is on the disk. DurabilityError: it is not kept."""
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, written))
        self._wake.set()
        # The write goes on when the caller leaves: what was accepted by then stays.
        return await written

    async def size(self) -> int:
        """Messages that are not in any file yet."""
        progress = await asyncio.to_thread(self._log.progress)
        return max(0, self._log.last - progress.upto - len(progress.beyond))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_on(), name="opt-out queue writer")
            tasks.create_task(self._follow(), name="opt-out queue follower")

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
                now = self._now()
                try:
                    numbers = await asyncio.to_thread(self._log.append, [message for message, _ in batch], now)
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    for _, written in batch:
                        if not written.done():
                            written.set_exception(error)
                    continue
                except asyncio.CancelledError:
                    for _, written in batch:
                        written.cancel()
                    raise
                for (_, written), number in zip(batch, numbers, strict=True):
                    if not written.done():
                        written.set_result(number)
                self._reached(max(numbers))
                self._taken(
                    [
                        QueuedMessage(number, now, message, delivery=delivery_of(self._log, number))
                        for (message, _), number in zip(batch, numbers, strict=True)
                    ]
                )

    async def _follow(self) -> None:
        """What other processes append, also where production has read it from the disk before."""
        failing = False
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                self._reached(await asyncio.to_thread(self._log.refresh))
            except Uid2Error as error:
                if not failing:
                    _log.error("%s", error.message, extra={"next_step": error.next_step})
                failing = True
                continue
            failing = False

    @contextlib.contextmanager
    def reader(self) -> "Iterator[LocalReader | None]":
        """The one producer of the folder; None while another process is it. Blocks."""
        with locked(self._log.folder / "produce.lock", wait=False) as mine:
            if not mine:
                yield None
                return
            self._log.settle()
            reader = LocalReader(self._log, self._now)
            yield reader
            reader.clean()


@final
class LocalReader:
    """Gives every waiting message once, in order."""

    def __init__(self, log: QueueLog, now: Callable[[], EpochMillis]) -> None:
        self._log = log
        self._now = now
        self._progress = log.progress()
        self._records = log.records_after(self._progress.upto)

    def receive(self) -> Batch:
        """At most ten; empty when there are no more."""
        batch = Batch()
        for record in self._records:
            if self._progress.done(record.number):
                continue
            try:
                message = OptOutMessage.decode(record.body)
            except UnusableMessageError:
                # Nothing here writes such a record; it is passed over with the next progress.
                continue
            batch.messages.append(self._queued(record, message))
            if len(batch.messages) == RECEIVE_SIZE:
                break
        return batch

    def in_flight(self) -> int:
        """Messages that other readers hold: there are none."""
        return 0

    def unfinished(self) -> tuple[WritePlan, list[QueuedMessage]] | None:
        """The file that a former producer was writing when it ended, and its messages."""
        try:
            data = (self._log.folder / PLAN_FILE).read_bytes()
        except FileNotFoundError:
            return None
        try:
            plan = msgspec.json.decode(data, type=WritePlan)
        except msgspec.DecodeError:
            raise StoreFormatError(
                "unreadable plan of delta production",
                file=PLAN_FILE,
                next_step="delete the file; the opt-outs it names are then written to another delta",
            ) from None
        if all(self._progress.done(number) for number in plan.numbers):
            self._forget_plan()
            return None
        wanted = {number: place for place, number in enumerate(plan.numbers)}
        found: list[QueuedMessage] = []
        for record in self._log.records_after(min(plan.numbers) - 1):
            if record.number in wanted:
                found.append(self._queued(record, OptOutMessage.decode(record.body)))
                if len(found) == len(wanted):
                    break
        return plan, sorted(found, key=lambda message: wanted[message.number])

    def prepare(self, plan: WritePlan) -> None:
        """From now on a crash does not lead to a second file with these messages."""
        with _disk(self._log.folder, "the plan"):
            replace_file(self._log.folder / PLAN_FILE, msgspec.json.encode(plan))

    def delete(self, messages: Sequence[QueuedMessage]) -> None:
        """They are in a file."""
        numbers = [message.number for message in messages]
        top = max(numbers, default=0)
        known = []
        for record in self._log.records_after(self._progress.upto):
            if record.number > top:
                break
            known.append(record.number)
        self._progress = self._progress.with_done(numbers, known, self._now())
        with _disk(self._log.folder, "the progress"):
            write_progress(self._log.folder, self._progress)
            self._forget_plan()

    def delete_malformed(self, receipts: Sequence[str]) -> None:
        """Nothing here gives any."""

    def clean(self) -> None:
        """Drop segments that nobody needs."""
        with _disk(self._log.folder, "old segments"):
            self._log.drop_until(self._progress.settled(self._now() - KEPT_MS))

    @property
    def progress(self) -> Progress:
        return self._progress

    def _queued(self, record: Record, message: OptOutMessage) -> QueuedMessage:
        delivery = delivery_of(self._log, record.number)
        return QueuedMessage(record.number, EpochMillis(record.sent), message, delivery=delivery)

    def _forget_plan(self) -> None:
        path: Path = self._log.folder / PLAN_FILE
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def delivery_of(log: QueueLog, number: int) -> str:
    """The name of a message among all queues."""
    return f"{log.id}-{number}"


@contextlib.contextmanager
def _disk(folder: Path, what: str) -> Iterator[None]:
    """Says which part of the queue the disk did not take."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot write {what} of the opt-out queue: {error.strerror or type(error).__name__}",
            next_step=f"check the space and rights of {folder}; what is in no file yet waits there",
        ) from None
