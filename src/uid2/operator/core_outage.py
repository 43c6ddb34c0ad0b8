"""How long an operator goes on without Core: twelve hours, announced for two (core chapter, 7.5).

The limits are constants so that they are part of what is measured: no configuration moves them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from uid2.corelink.exchange import AttestationRefusedError
from uid2.protocol.attest_messages import instant_text
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import Clock
from uid2.service.metrics import Metrics

HOUR: Final = 3600.0
LONGEST_FAILURE: Final = 12 * HOUR
ANNOUNCED_BEFORE: Final = 2 * HOUR
ANNOUNCE_EVERY: Final = 600.0

_log = logging.getLogger(__name__)


@final
@dataclass(slots=True)
class FailureWindow:
    """Since when something has failed without a success between; seconds of the monotonic clock."""

    what: str
    since: float | None = None

    def failed(self, now: float) -> None:
        if self.since is None:
            self.since = now

    def succeeded(self) -> None:
        self.since = None

    def left(self, now: float) -> float | None:
        """Seconds until the operator stops for this; None while it works."""
        return None if self.since is None else self.since + LONGEST_FAILURE - now


@final
class CoreOutage:
    """An operator's `AttestationWatch`: counts, and says when the operator may not go on."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._attesting = FailureWindow("attesting with Core")
        self._reaching = FailureWindow("reaching Core")
        self._announced: float | None = None

    def attested(self) -> None:
        self._attesting.succeeded()
        self._reaching.succeeded()
        self._count("accepted")

    def refused(self, error: AttestationRefusedError) -> None:
        del error
        self._count("refused")

    def failed(self, error: Uid2Error) -> None:
        del error
        self._attesting.failed(self._clock.monotonic())
        self._count("failed")

    def core_answered(self) -> None:
        self._reaching.succeeded()

    def core_failed(self) -> None:
        self._reaching.failed(self._clock.monotonic())

    def skew_measured(self, skew_ms: int) -> None:
        self._metrics.gauge("uid2_operator_core_clock_skew_seconds", skew_ms / 1000)

    def reason_to_stop(self) -> str | None:
        """The cause for the last log line when twelve hours are over; before that it is announced."""
        now = self._clock.monotonic()
        what, left = self._stop()
        if left is None:
            self._announced = None
        elif left <= 0:
            return f"{what} has failed for 12 hours"
        elif left <= ANNOUNCED_BEFORE and (self._announced is None or now - self._announced >= ANNOUNCE_EVERY):
            self._announced = now
            _log.critical(
                "%s keeps failing: this operator stops in %d minutes",
                what,
                int(left // 60),
                extra={"next_step": "restore the way to Core; the problem is in /ops/status"},
            )
        return None

    def status(self) -> Mapping[str, Any]:
        """`stops_in_seconds` stands there from the first failure on."""
        what, left = self._stop()
        wall = self._clock.now_ms()
        return {
            "stops_in_seconds": None if left is None else max(0, int(left)),
            "stops_at": None if left is None else instant_text(EpochMillis(wall + int(max(0.0, left) * 1000))),
            "stops_because": what if left is not None else None,
        }

    def sample(self, *, attested: bool, expires_at: EpochMillis | None) -> None:
        """Brings the gauges up to date."""
        _, left = self._stop()
        self._metrics.gauge("uid2_operator_attested", int(attested))
        if expires_at is not None:
            self._metrics.gauge("uid2_operator_attestation_expires", expires_at // 1000)
        self._metrics.gauge("uid2_operator_stop_in_seconds", -1 if left is None else max(0, int(left)))

    def _stop(self) -> tuple[str, float | None]:
        """What keeps failing and the seconds until the stop for it; the nearer of two."""
        now = self._clock.monotonic()
        windows = (self._attesting, self._reaching)
        running = [(left, window.what) for window in windows if (left := window.left(now)) is not None]
        if not running:
            return "", None
        left, what = min(running)
        return what, left

    def _count(self, result: str) -> None:
        self._metrics.count("uid2_operator_attestations_total", result=result)
