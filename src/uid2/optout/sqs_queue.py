"""SQS as the queue (opt-out chapter, 6.1 to 6.3).

An opt-out is durable once the service has acknowledged it. The service may give a message twice, and holds the same
attempt twice when two instances took it: claims keep both out of a second file. Any number of producers may read; what
one holds is hidden from the others until `visibility_seconds` are over.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from uid2.optout.messages import OptOutMessage, QueuedMessage, UnusableMessageError
from uid2.optout.queue import Batch, WritePlan
from uid2.optout.sqs_client import CONNECTIONS, DELETE_SIZE, Received, SqsClient
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import Entropy

_ID_LENGTH: Final = 16

_log = logging.getLogger(__name__)


@final
class SqsQueue:
    """`taken` is told of each opt-out that the service has acknowledged, on the event loop.

    `knows` says whether an attempt with this mark was acknowledged, here or elsewhere.
    """

    def __init__(
        self,
        client: SqsClient,
        visibility_seconds: int,
        now: Callable[[], EpochMillis],
        entropy: Entropy,
        taken: Callable[[Sequence[QueuedMessage]], None],
        knows: Callable[[bytes], bool],
    ) -> None:
        self._client = client
        self._visibility_seconds = visibility_seconds
        self._now = now
        self._entropy = entropy
        self._taken = taken
        self._knows = knows
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sqs")
        self._sending: dict[bytes, asyncio.Task[None]] = {}

    async def send(self, message: OptOutMessage) -> int:
        """0: the queue gives no numbers. DependencyError: it is not acknowledged."""
        mark = message.mark
        if mark is not None and self._knows(mark):
            return 0
        # One without an id gets a key of its own.
        key = mark or self._entropy.bytes(_ID_LENGTH)
        task = self._sending.get(key)
        if task is None:
            task = self._sending[key] = asyncio.create_task(self._send(message, key))
            task.add_done_callback(lambda done: self._ended(key, done))
        # The call goes on when the caller leaves: what the service acknowledges is told to the tail.
        await asyncio.shield(task)
        return 0

    async def size(self) -> int:
        """Visible, in flight and delayed. DependencyError."""
        counts = await asyncio.get_running_loop().run_in_executor(self._threads, self._client.counts)
        return sum(counts)

    async def run(self) -> None:
        """Nothing to do: until cancelled."""
        await asyncio.Event().wait()

    @contextlib.contextmanager
    def reader(self) -> "Iterator[SqsReader | None]":
        yield SqsReader(self._client, self._visibility_seconds, self._now)

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        del self._sending[key]
        if not task.cancelled():
            # Looked at, as nobody may be waiting for it any more.
            task.exception()

    async def _send(self, message: OptOutMessage, key: bytes) -> None:
        body = message.encode().decode()
        name = await asyncio.get_running_loop().run_in_executor(self._threads, self._client.send, body, key.hex())
        self._taken([QueuedMessage(0, self._now(), message, delivery=name)])


@final
class SqsReader:
    """Gives what no other reader holds."""

    def __init__(self, client: SqsClient, visibility_seconds: int, now: Callable[[], EpochMillis]) -> None:
        self._client = client
        self._visibility_seconds = visibility_seconds
        self._now = now

    def receive(self) -> Batch:
        """At most ten; a failed call is logged and gives none."""
        batch = Batch()
        try:
            found = self._client.receive(self._visibility_seconds)
        except DependencyError as error:
            _log.error("sqs_error: %s", error.message, extra={"next_step": error.next_step})
            return batch
        for part in found:
            try:
                message = OptOutMessage.decode(part.body.encode("utf-8", "surrogatepass"))
            except UnusableMessageError:
                batch.malformed.append({"messageId": part.message_id, "body": part.body, "attributes": part.attributes})
                batch.malformed_receipts.append(part.receipt)
            else:
                batch.messages.append(QueuedMessage(0, self._sent(part), message, part.receipt, part.message_id))
        return batch

    def in_flight(self) -> int:
        try:
            return self._client.counts().in_flight
        except DependencyError as error:
            _log.warning("the messages that other producers hold are not counted: %s", error.message)
            return 0

    def unfinished(self) -> tuple[WritePlan, list[QueuedMessage]] | None:
        """None: messages of a job that broke off come again, and its claim says what became of them."""
        return None

    def prepare(self, plan: WritePlan) -> None:
        """Nothing: as above."""

    def delete(self, messages: Sequence[QueuedMessage]) -> None:
        self._delete([message.receipt for message in messages])

    def delete_malformed(self, receipts: Sequence[str]) -> None:
        self._delete(receipts)

    def _delete(self, receipts: Sequence[str]) -> None:
        """Again once, then as long as some succeed. What is left comes again and is known then."""
        left, repeated = list(receipts), False
        while left:
            failed = self._delete_round(left)
            if repeated and len(failed) == len(left):
                _log.error("sqs_error: %d messages could not be deleted and will come again", len(failed))
                return
            left, repeated = failed, True

    def _delete_round(self, receipts: Sequence[str]) -> list[str]:
        """Those that are left. After a call that failed, which may take long, the rest is not tried."""
        failed: list[str] = []
        for start in range(0, len(receipts), DELETE_SIZE):
            try:
                failed += self._client.delete(receipts[start : start + DELETE_SIZE])
            except DependencyError as error:
                _log.error("sqs_error: %s", error.message, extra={"next_step": error.next_step})
                return [*failed, *receipts[start:]]
        return failed

    def _sent(self, part: Received) -> EpochMillis:
        text = part.attributes.get("SentTimestamp", "")
        return EpochMillis(int(text)) if text.isascii() and text.isdigit() else self._now()
