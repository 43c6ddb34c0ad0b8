"""A program's standing with Core: attested, renewed before expiry, refused for good (core chapter, 7.5).

attest ─▶ credentials ─▶ renewed 10 minutes before the end, or after a 401
   └─ 401, 403: never again ─ anything else: again after a pause with jitter, for as long as the program likes
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, final

from uid2.corelink.clock import NOTABLE_SKEW_MS, SKEW_PRECISION_MS, issued_at
from uid2.corelink.exchange import AttestationRefusedError, AttestExchange, Granted
from uid2.corelink.headers import CallerIdentity
from uid2.corelink.rules import SHORTEST_REUSE, pause_after, renewal_after
from uid2.corelink.watch import AttestationWatch
from uid2.protocol.attest_messages import instant_text
from uid2.protocol.errors import DependencyError, Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import Clock, Entropy

LONGEST_WAIT_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """`began`, `renews` and `ends` are seconds of the monotonic clock, so a wrong wall clock does no harm."""

    token: str = field(repr=False)
    jwt_core: str | None = field(repr=False)
    jwt_optout: str | None = field(repr=False)
    optout_url: str | None
    expires_at: EpochMillis
    attested_at: EpochMillis
    report_data_version: int
    began: float
    renews: float
    ends: float


@final
class Attestation:
    """Used from several threads; at most one attests, the others wait for it. Every call may block but `status`."""

    def __init__(
        self,
        exchange: AttestExchange,
        caller: CallerIdentity,
        platform: str,
        clock: Clock,
        entropy: Entropy,
        watch: AttestationWatch,
    ) -> None:
        """`platform` is what /ops/status calls the kind of evidence."""
        self._exchange = exchange
        self._caller = caller
        self._platform = platform
        self._clock = clock
        self._entropy = entropy
        self._watch = watch
        self._lock = Lock()
        self._held: Credentials | None = None
        self._failures = 0
        self._next_attempt = clock.monotonic()
        self._problem: str | None = None
        self.refusal: AttestationRefusedError | None = None
        self.skew_ms: int | None = None

    @property
    def attested(self) -> bool:
        return self._held is not None and self._clock.monotonic() < self._held.ends

    @property
    def expires_at(self) -> EpochMillis | None:
        """The end of the newest credentials; None before the first."""
        return None if self._held is None else self._held.expires_at

    @property
    def optout_url(self) -> str | None:
        return None if self._held is None else self._held.optout_url

    def credentials(self) -> Credentials:
        """Valid credentials, from a new attestation where needed.

        AttestationRefusedError: Core has refused. DependencyError: none can be had now; says when it is tried again.
        """
        held = self._held
        if held is not None and self._clock.monotonic() < held.ends:
            return held
        return self._attest(held)

    def rejected(self, credentials: Credentials) -> bool:
        """Core answered 401 to these credentials; whether there are newer ones now."""
        if self._held is credentials and self._clock.monotonic() - credentials.began < SHORTEST_REUSE:
            return False
        try:
            self._attest(credentials)
        except DependencyError:
            return False
        return True

    def due(self) -> bool:
        """Whether `renew` has something to do."""
        now, held = self._clock.monotonic(), self._held
        return self.refusal is None and (held is None or now >= held.renews) and now >= self._next_attempt

    def wait_seconds(self) -> float:
        """Until another attempt is allowed."""
        return max(0.0, self._next_attempt - self._clock.monotonic())

    def renew(self) -> bool:
        """Attest anew when it is time; whether the credentials are good. AttestationRefusedError as above."""
        if self.due():
            with suppress(DependencyError):
                self._attest(self._held)
        return self.attested

    def headers(self, credentials: Credentials, *, encrypted: bool = False) -> dict[str, str]:
        """The headers of a request to Core (7.4)."""
        headers = self._caller.headers(self._entropy) | {"Attestation-Token": credentials.token}
        if credentials.jwt_core is not None:
            headers["Attestation-JWT"] = credentials.jwt_core
        if encrypted:
            headers["Encrypted"] = "true"
        return headers

    def optout_headers(self) -> dict[str, str]:
        """The headers of a request to the opt-out service; DependencyError while there are no credentials."""
        credentials = self.credentials()
        headers = self._caller.headers(self._entropy) | {"Attestation-Token": credentials.token}
        if credentials.jwt_optout is not None:
            headers["Attestation-JWT"] = credentials.jwt_optout
        return headers

    def core_answered(self, skew_ms: int | None) -> None:
        """Core has accepted a request."""
        self._watch.core_answered()
        if skew_ms is not None:
            self._measured(skew_ms)

    def core_failed(self) -> None:
        """Core could not be reached, or did not accept a request."""
        self._watch.core_failed()

    def status(self) -> dict[str, Any]:
        """The member `attestation` of /ops/status."""
        held, now = self._held, self._clock.monotonic()
        return {
            "platform": self._platform,
            "attested": self.attested,
            "attested_at": None if held is None else instant_text(held.attested_at),
            "expires_at": None if held is None else instant_text(held.expires_at),
            "expires_in_seconds": None if held is None else max(0, int(held.ends - now)),
            "report_data_version": None if held is None else held.report_data_version,
            "failures": self._failures,
            "problem": self._problem,
            "next_attempt_in_seconds": max(0, int(self._next_attempt - now)) if self._failures else None,
            **self._watch.status(),
            "clock_skew_ms": self.skew_ms,
        }

    def _attest(self, known: Credentials | None) -> Credentials:
        """New credentials; those that another thread has meanwhile got in place of `known` will do."""
        if not self._lock.acquire(timeout=LONGEST_WAIT_SECONDS):
            raise DependencyError("another attestation is under way", next_step="wait for it")
        try:
            if self.refusal is not None:
                raise self.refusal
            if self._held is not None and self._held is not known:
                return self._held
            wait = self.wait_seconds()
            if wait > 0:
                raise DependencyError(
                    f"not attested: {self._problem}", next_step=f"the next attempt follows in {int(wait) + 1} s"
                )
            return self._attempt()
        finally:
            self._lock.release()

    def _attempt(self) -> Credentials:
        try:
            granted = self._exchange.run()
            held = self._accepted(granted)
        except AttestationRefusedError as error:
            self.refusal, self._problem = error, error.message
            self._watch.refused(error)
            raise
        except Uid2Error as error:
            self._failed(error)
            raise DependencyError(error.message, next_step=error.next_step) from None
        self._held, self._problem, self._failures = held, None, 0
        self._watch.attested()
        _log.info(
            "attested with Core on platform %s, report data version %d, until %s",
            self._platform,
            held.report_data_version,
            instant_text(held.expires_at),
        )
        return held

    def _accepted(self, granted: Granted) -> Credentials:
        now, wall, response, before = self._clock.monotonic(), self._clock.now_ms(), granted.response, self._held
        skew = granted.skew_ms
        if skew is None and (issued := issued_at(response.jwt_core)) is not None:
            skew = wall - (issued + 500)
        if skew is not None:
            self._measured(skew)
        # How long the token lives is judged by Core's clock, where it is known to differ.
        ahead = skew if skew is not None and abs(skew) > SKEW_PRECISION_MS else 0
        lifetime = (response.expires_at - (wall - ahead)) / 1000
        if lifetime <= 0:
            raise DependencyError(
                "Core's answer to /attest holds a token that has already expired",
                next_step="compare the clocks of this machine and of Core",
            )
        return Credentials(
            token=granted.token,
            # What a later answer leaves out keeps its value (7.5).
            jwt_core=response.jwt_core or (before.jwt_core if before else None),
            jwt_optout=response.jwt_optout or (before.jwt_optout if before else None),
            optout_url=response.optout_url or (before.optout_url if before else None),
            expires_at=response.expires_at,
            attested_at=wall,
            report_data_version=granted.report_data_version,
            began=now,
            renews=now + renewal_after(lifetime),
            ends=now + lifetime,
        )

    def _failed(self, error: Uid2Error) -> None:
        now = self._clock.monotonic()
        self._failures += 1
        self._problem = error.message
        self._next_attempt = now + pause_after(self._failures, self._entropy.bytes(4))
        self._watch.failed(error)
        _log.error(
            "attestation failed, the next attempt follows in %.0f s: %s",
            self._next_attempt - now,
            error.message,
            extra={"next_step": error.next_step},
        )

    def _measured(self, skew_ms: int) -> None:
        notable = abs(skew_ms) > NOTABLE_SKEW_MS
        if notable and (self.skew_ms is None or abs(self.skew_ms) <= NOTABLE_SKEW_MS):
            _log.warning(
                "this machine's clock is %.1f s %s Core's",
                abs(skew_ms) / 1000,
                "ahead of" if skew_ms > 0 else "behind",
                extra={"next_step": "set the clock of one of the two"},
            )
        self.skew_ms = skew_ms
        self._watch.skew_measured(skew_ms)
