"""When a program attests again.

The limits are constants so that they are part of what is measured: no configuration moves them.
"""

from typing import Final

RENEW_BEFORE_EXPIRY: Final = 600.0
LONGEST_PAUSE: Final = 60.0
# A 401 for a token younger than this is no reason to attest once more.
SHORTEST_REUSE: Final = 60.0
_SPREAD: Final = 1 << 32


def pause_after(failures: int, random: bytes) -> float:
    """Seconds until the next attempt: 1, 2, 4 … 60, of which 4 random bytes choose between half and all."""
    longest = min(LONGEST_PAUSE, 2.0 ** min(max(failures, 1) - 1, 10))
    share = int.from_bytes(random[:4], "big") / _SPREAD
    return longest * (0.5 + share / 2)


def renewal_after(lifetime: float) -> float:
    """Seconds from an attestation to its renewal: ten minutes before the end, of a short life its second half."""
    return max(lifetime - RENEW_BEFORE_EXPIRY, lifetime / 2)
