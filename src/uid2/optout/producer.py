"""The state of delta production in this process, and the control port's answers (opt-out chapter, 2.5)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from uid2.optout.manual_override import Halt
from uid2.optout.production import HALTING, DeltaJob, JobResult
from uid2.optout.traffic_calculator import TrafficRules, load_traffic_rules
from uid2.optout.traffic_filter import TrafficFilter, load_traffic_filter
from uid2.protocol.attest_messages import instant_text
from uid2.protocol.errors import ConfigurationError, Uid2Error
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.service.clock import Clock

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
_BUSY: Final = {"status": "conflict", "reason": "job already running on this pod"}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class JobState:
    state: str
    started: EpochMillis
    ended: EpochMillis | None = None
    result: JobResult | None = None
    error: str | None = None

    def document(self) -> dict[str, Any]:
        members: dict[str, Any] = {"state": self.state, "start_time": instant_text(self.started)}
        if self.ended is not None:
            members["end_time"] = instant_text(self.ended)
            members["duration_seconds"] = max(0, (self.ended - self.started) // 1000)
        if self.result is not None:
            members["result"] = self.result.document()
        if self.error is not None:
            members["error"] = self.error
        return members


@final
class DeltaProducer:
    """At most one job at a time. `traffic_filter` is the deny list as last read."""

    def __init__(
        self,
        job: DeltaJob,
        filter_path: Path | None,
        calculator_path: Path | None,
        clock: Clock,
        after_job: Callable[[], Awaitable[object]],
    ) -> None:
        self._job = job
        self._filter_path = filter_path
        self._calculator_path = calculator_path
        self._clock = clock
        self._after_job = after_job
        self._task: asyncio.Task[None] | None = None
        self._seen_halted: EpochSeconds | None = None
        self.state: JobState | None = None
        self.traffic_filter = TrafficFilter()

    def read_rules(self) -> TrafficRules:
        """Both traffic files anew; ConfigurationError leaves the deny list as it was."""
        traffic_filter = load_traffic_filter(self._filter_path)
        rules = load_traffic_rules(self._calculator_path)
        self.traffic_filter = traffic_filter
        return rules

    async def start(self) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a request for a job."""
        try:
            rules = await asyncio.to_thread(self.read_rules)
        except ConfigurationError as error:
            _log.error("circuit_breaker_config_error: %s", error.message, extra={"next_step": error.next_step})
            return 500, {"status": "failed", "error": f"{error.message}; {error.next_step}"}
        if self._task is not None and not self._task.done():
            return 409, dict(_BUSY)
        self.state = JobState(RUNNING, self._clock.now_ms())
        self._task = asyncio.create_task(self._run(self.state, rules), name="delta production")
        return 202, {"status": "accepted", "message": "job started"}

    def status(self) -> dict[str, Any]:
        if self.state is None:
            return {"status": "idle", "message": "no job running on this pod"}
        return self.state.document()

    async def halt(self) -> Halt | None:
        """What halts production now, whoever halted it; `since` at the latest when this process saw it first."""
        found = await asyncio.to_thread(self._job.halt)
        if found is None:
            self._seen_halted = None
            return None
        if self._seen_halted is None:
            self._seen_halted = EpochSeconds(self._clock.now_ms() // 1000)
        return Halt(found.since or self._seen_halted, found.reason)

    async def wait(self) -> None:
        """Until the running job, if there is one, has ended."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def run_every(self, seconds: float) -> None:
        while True:
            await self.start()
            await self.wait()
            await asyncio.sleep(seconds)

    async def _run(self, state: JobState, rules: TrafficRules) -> None:
        try:
            result = await asyncio.to_thread(self._job.run, self.traffic_filter, rules)
        except Uid2Error as error:
            self._failed(state, error.message)
        except Exception as error:  # noqa: BLE001 - the state must tell of any end
            self._failed(state, f"the job broke off: {type(error).__name__}")
        else:
            state.state, state.result = COMPLETED, result
            if result.stop_reason in HALTING:
                _log.error(
                    "delta production is halted: %s",
                    result.stop_reason.value,
                    extra={"next_step": "check the traffic, then run: uid2 admin optout breaker reset"},
                )
        state.ended = self._clock.now_ms()
        await self._after_job()

    def _failed(self, state: JobState, why: str) -> None:
        _log.error("delta_job_failed: %s", why, extra={"next_step": "opt-outs wait in the queue; the next job retries"})
        state.state, state.error = FAILED, why
