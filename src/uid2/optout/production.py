"""One job of delta production: windows of waiting messages become delta files (opt-out chapter, 6.2 and 6.3).

claim ─▶ plan ─▶ file in the bucket ─▶ messages deleted    a crash in between: what is left of it is done by a later job
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, final

import msgspec

from uid2.optout.bucket import Bucket
from uid2.optout.claims import Claims, Review
from uid2.optout.delta_files import delta_bytes, dropped_bytes, malformed_bytes
from uid2.optout.file_list import read_bucket
from uid2.optout.listing import ListedFile, delta_path, name_time, newest_partition, side_path
from uid2.optout.manual_override import Halt, ManualOverride
from uid2.optout.messages import QueuedMessage
from uid2.optout.queue import OptOutQueue, QueueReader, WritePlan
from uid2.optout.traffic_calculator import TrafficCalculator, TrafficRules
from uid2.optout.traffic_filter import TrafficFilter
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutFileName
from uid2.service.clock import Clock, Entropy
from uid2.service.metrics import Metrics

# For so long an interrupted write keeps its name, so that one that still arrives is the same file.
RETRY_SECONDS: Final = 300

_log = logging.getLogger(__name__)


class StopReason(StrEnum):
    NONE = "NONE"
    QUEUE_EMPTY = "QUEUE_EMPTY"
    MESSAGES_TOO_RECENT = "MESSAGES_TOO_RECENT"
    MESSAGE_LIMIT_EXCEEDED = "MESSAGE_LIMIT_EXCEEDED"
    MANUAL_OVERRIDE_ACTIVE = "MANUAL_OVERRIDE_ACTIVE"
    CIRCUIT_BREAKER_TRIGGERED = "CIRCUIT_BREAKER_TRIGGERED"


HALTING: Final = (StopReason.MANUAL_OVERRIDE_ACTIVE, StopReason.CIRCUIT_BREAKER_TRIGGERED)


@dataclass(frozen=True, slots=True)
class ProductionRules:
    """`window_seconds`: the age at which a message may go into a file, and the length of a window."""

    folder: str
    replica: int
    window_seconds: int = 300
    most_messages: int = 10_000
    timeout_seconds: int = 10_800
    dropped_bucket: Bucket | None = None


@dataclass(slots=True)
class JobResult:
    deltas_produced: int = 0
    entries_processed: int = 0
    dropped_request_files_produced: int = 0
    dropped_requests_processed: int = 0
    stop_reason: StopReason = StopReason.NONE

    def document(self) -> dict[str, Any]:
        if self.stop_reason in HALTING:
            status = "halted"
        else:
            status = "success" if self.deltas_produced or self.dropped_request_files_produced else "skipped"
        return {
            "deltas_produced": self.deltas_produced,
            "entries_processed": self.entries_processed,
            "dropped_request_files_produced": self.dropped_request_files_produced,
            "dropped_requests_processed": self.dropped_requests_processed,
            "stop_reason": self.stop_reason.value,
            "status": status,
        }


@dataclass(slots=True)
class Window:
    """`start` is the time of the first message kept; `received` counts what was read for it."""

    messages: list[QueuedMessage] = field(default_factory=list)
    start: int | None = None
    stop_reason: StopReason = StopReason.NONE
    received: int = 0


def read_window(
    reader: QueueReader,
    rules: ProductionRules,
    now: Callable[[], EpochSeconds],
    on_malformed: Callable[[list[dict[str, Any]], list[str]], None],
) -> Window:
    """The messages of one window, oldest batch first; why reading ended is in `stop_reason`."""
    window = Window()
    while True:
        if len(window.messages) >= rules.most_messages:
            window.stop_reason = StopReason.MESSAGE_LIMIT_EXCEEDED
            return window
        batch = reader.receive()
        if not len(batch):
            window.stop_reason = StopReason.QUEUE_EMPTY
            return window
        window.received += len(batch)
        if batch.malformed:
            on_malformed(batch.malformed, batch.malformed_receipts)
        if not batch.messages:
            continue
        ordered = sorted(batch.messages, key=lambda message: message.timestamp)
        ripe = [message for message in ordered if is_ripe(message.timestamp, now(), rules.window_seconds)]
        if not ripe:
            window.stop_reason = StopReason.MESSAGES_TOO_RECENT
            return window
        if window.start is None:
            window.start = ripe[0].timestamp
        window.messages += ripe
        if any(message.timestamp > window.start + rules.window_seconds for message in ripe):
            return window


def is_ripe(timestamp: int, now: int, window_seconds: int) -> bool:
    """Whether a message has waited long enough. One from the future waited under a clock that was set back since."""
    return timestamp > now or now - timestamp >= window_seconds


@final
class DeltaJob:
    """Runs in a thread; `run` blocks until the queue has nothing more to give."""

    def __init__(
        self,
        queue: OptOutQueue,
        claims: Claims,
        bucket: Bucket,
        rules: ProductionRules,
        override: ManualOverride,
        calculator: TrafficCalculator,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._claims = claims
        self._bucket = bucket
        self._rules = rules
        self._override = override
        self._calculator = calculator
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics

    def halt(self) -> Halt | None:
        """What halts production now; None while nothing does. Blocks."""
        return self._override.halt()

    def run(self, traffic_filter: TrafficFilter, traffic_rules: TrafficRules) -> JobResult:
        """Uid2Error: the job failed; what is not in a file waits in the queue."""
        result = JobResult()
        if self._override.active():
            result.stop_reason = StopReason.MANUAL_OVERRIDE_ACTIVE
            return result
        with self._queue.reader() as reader:
            if reader is None:
                _log.info("another process produces from this queue")
                result.stop_reason = StopReason.QUEUE_EMPTY
                return result
            self._finish_former(reader, result)
            end = self._clock.monotonic() + self._rules.timeout_seconds
            while self._clock.monotonic() <= end:
                window = read_window(
                    reader, self._rules, self._now, lambda found, receipts: self._malformed(reader, found, receipts)
                )
                if not window.messages:
                    result.stop_reason = window.stop_reason
                    self._claims.clean()
                    return result
                if self._halted(reader, window, traffic_filter, traffic_rules, result):
                    result.stop_reason = StopReason.CIRCUIT_BREAKER_TRIGGERED
                    return result
            _log.error("delta_job_timeout: the job has run for %d s and ends", self._rules.timeout_seconds)
        return result

    def _halted(
        self,
        reader: QueueReader,
        window: Window,
        traffic_filter: TrafficFilter,
        traffic_rules: TrafficRules,
        result: JobResult,
    ) -> bool:
        """Write a window's files, unless production is halted."""
        if self._override.active():
            return True
        denied = [message for message in window.messages if traffic_filter.denies(message)]
        kept = [message for message in window.messages if not traffic_filter.denies(message)]
        elsewhere = reader.in_flight() - window.received
        while True:
            files, review = self._review(kept)
            if review.fresh and self._trips(traffic_rules, files, review.fresh, elsewhere):
                return True
            path = self._new_path(files, dropped=False)
            if not review.fresh or self._claims.claim(path, review.fresh):
                break
        if review.finished:
            reader.delete(review.finished)
        if review.fresh:
            plan = self._plan(path, window, review.fresh, dropped=False)
            self._write(reader, plan, review.fresh, review.repeated, result)
        if denied:
            plan = self._plan(self._new_path(files, dropped=True), window, denied, dropped=True)
            self._write(reader, plan, denied, (), result)
        return False

    def _review(self, messages: Sequence[QueuedMessage]) -> tuple[Sequence[ListedFile], Review]:
        """The files of the bucket, and which messages are in them or will be."""
        self._claims.refresh()
        files = read_bucket(self._bucket, self._rules.folder)
        self._claims.seen({file.path for file in files})
        review = self._claims.review(messages)
        again = len(review.repeated) + len(review.finished)
        if again:
            _log.info("%d messages came more than once and go into no other file", again)
        if review.pending:
            _log.info("%d messages wait: another producer has claimed them", len(review.pending))
        return files, review

    def _plan(self, path: str, window: Window, messages: Sequence[QueuedMessage], *, dropped: bool) -> WritePlan:
        start = window.start or 0
        numbers = tuple(message.number for message in messages)
        return WritePlan(path, dropped, start, start + self._rules.window_seconds, numbers)

    def _trips(
        self, rules: TrafficRules, files: Sequence[ListedFile], kept: Sequence[QueuedMessage], elsewhere: int
    ) -> bool:
        figures = self._calculator.figures(rules, files, kept, elsewhere, self._now())
        if figures.trips:
            _log.error("circuit_breaker_triggered: %s", figures.described())
            self._override.set(self._now(), f"circuit breaker: {figures.described()}")
        elif figures.near:
            _log.warning("high_message_volume: %s", figures.described())
        return figures.trips

    def _new_path(self, files: Sequence[ListedFile], *, dropped: bool) -> str:
        number = int.from_bytes(self._entropy.bytes(4), "big")
        if dropped:
            return side_path("dropped", self._rules.replica, self._now(), number)
        return delta_path(self._rules.folder, self._rules.replica, name_time(files, self._now()), number)

    def _write(
        self,
        reader: QueueReader,
        plan: WritePlan,
        messages: Sequence[QueuedMessage],
        repeated: Sequence[QueuedMessage],
        result: JobResult,
    ) -> None:
        reader.prepare(plan)
        self._upload(plan, messages)
        reader.delete([*messages, *repeated])
        self._count(plan, len(messages), result)

    def _upload(self, plan: WritePlan, messages: Sequence[QueuedMessage]) -> None:
        if plan.dropped:
            if self._rules.dropped_bucket is not None:
                self._rules.dropped_bucket.put(plan.path, dropped_bytes(messages))
            else:
                _log.warning(
                    "%d denied opt-outs are dropped and kept nowhere",
                    len(messages),
                    extra={"next_step": "set optout_s3_bucket_dropped_requests to keep them"},
                )
            self._claims.record(plan.path, messages, dropped=True)
        else:
            entries = [message.entry for message in messages]
            data = delta_bytes(entries, EpochSeconds(plan.start), EpochSeconds(plan.end))
            self._bucket.put(plan.path, data)

    def _finish_former(self, reader: QueueReader, result: JobResult) -> None:
        unfinished = reader.unfinished()
        if unfinished is None:
            return
        plan, messages = unfinished
        files = read_bucket(self._bucket, self._rules.folder)
        if not plan.dropped and any(file.path == plan.path for file in files):
            _log.warning("a former job ended after it wrote %s", plan.path)
            reader.delete(messages)
            self._count(plan, len(messages), result)
            return
        if not plan.dropped and self._outdated(plan, files):
            # Under its old name nobody would be told of it.
            plan = msgspec.structs.replace(plan, path=self._new_path(files, dropped=False))
            self._claims.refresh()
            self._claims.record(plan.path, messages, dropped=False)
            reader.prepare(plan)
        _log.warning("a former job ended before it wrote %s, which is written now", plan.path)
        self._upload(plan, messages)
        reader.delete(messages)
        self._count(plan, len(messages), result)

    def _outdated(self, plan: WritePlan, files: Sequence[ListedFile]) -> bool:
        """Whether the name is that of another time: a partition that readers begin at may have been made since."""
        name = OptOutFileName.parse(plan.path)
        newest = newest_partition(files)
        if name is None or name.created is None:
            return True
        return (newest is not None and name.created < newest) or abs(self._now() - name.created) > RETRY_SECONDS

    def _count(self, plan: WritePlan, size: int, result: JobResult) -> None:
        if plan.dropped:
            result.dropped_request_files_produced += 1
            result.dropped_requests_processed += size
            self._metrics.count("uid2_optout_sqs_dropped_request_files_produced_total")
            self._metrics.count("uid2_optout_sqs_dropped_requests_processed_total", size)
        else:
            result.deltas_produced += 1
            result.entries_processed += size
            self._metrics.count("uid2_optout_sqs_delta_produced_total")
            self._metrics.count("uid2_optout_sqs_entries_processed_total", size)
            _log.info("wrote %s with %d opt-outs", plan.path, size)

    def _malformed(self, reader: QueueReader, found: list[dict[str, Any]], receipts: list[str]) -> None:
        path = side_path("malformed", self._rules.replica, self._now(), int.from_bytes(self._entropy.bytes(4), "big"))
        target = self._rules.dropped_bucket or self._bucket
        target.put(path, malformed_bytes(found))
        reader.delete_malformed(receipts)
        _log.error("%d messages of the queue hold no opt-out and were put aside in %s", len(found), path)

    def _now(self) -> EpochSeconds:
        return EpochSeconds(self._clock.now_ms() // 1000)
