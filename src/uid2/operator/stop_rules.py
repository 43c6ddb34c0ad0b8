"""When an operator does not start, or stops by itself (operator chapter, 13.3 and 13.4)."""

from collections.abc import Sequence
from typing import Final

from uid2.operator.context import SaltExpiry
from uid2.protocol.errors import ConfigurationError, NoActiveKeyError
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.stores.snapshot import OperatorSnapshot

HOUR_MS: Final = 3_600_000
CHECK_SECONDS: Final = 60


def reason_to_stop(
    now: EpochMillis, expiry: SaltExpiry, salts_expired_hours: int, stale_stores: Sequence[str], stale_hours: int
) -> str | None:
    """The cause for the last log line, None while there is no reason to stop."""
    if expiry.since is not None and now - expiry.since > salts_expired_hours * HOUR_MS:
        return f"requests have used expired salts for more than {salts_expired_hours} hours"
    if stale_stores:
        return f"not refreshed for more than {stale_hours} hours: {', '.join(stale_stores)}"
    return None


def check_mock_stores(snapshot: OperatorSnapshot, now: EpochMillis) -> None:
    """ConfigurationError: mock mode does not start without an active master key or with expired salts."""
    try:
        snapshot.key_ring.master(EpochSeconds(now // 1000))
    except NoActiveKeyError as error:
        raise ConfigurationError(error.message, next_step=error.next_step) from None
    if snapshot.salts.expired(now):
        raise ConfigurationError("every salt snapshot has expired", next_step="make new salts")
