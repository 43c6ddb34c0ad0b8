"""How long an operator goes on without Core, and when it tries again.

The limits are constants so that they are part of what is measured: no configuration moves them.
"""

from dataclasses import dataclass
from typing import Final, final

HOUR: Final = 3600.0
LONGEST_FAILURE: Final = 12 * HOUR
ANNOUNCED_BEFORE: Final = 2 * HOUR
RENEW_BEFORE_EXPIRY: Final = 600.0
LONGEST_PAUSE: Final = 60.0
# A 401 for a token younger than this is no reason to attest once more.
SHORTEST_REUSE: Final = 60.0
FIRST_ATTEMPTS: Final = 4
_SPREAD: Final = 1 << 32


def pause_after(failures: int, random: bytes) -> float:
    """Seconds until the next attempt: 1, 2, 4 … 60, of which 4 random bytes choose between half and all."""
    longest = min(LONGEST_PAUSE, 2.0 ** min(max(failures, 1) - 1, 10))
    share = int.from_bytes(random[:4], "big") / _SPREAD
    return longest * (0.5 + share / 2)


def renewal_after(lifetime: float) -> float:
    """Seconds from an attestation to its renewal: ten minutes before the end, of a short life its second half."""
    return max(lifetime - RENEW_BEFORE_EXPIRY, lifetime / 2)


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
