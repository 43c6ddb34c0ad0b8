"""The object that halts delta production until a person removes it (opt-out chapter, 6.6).

{"manual_override":"DELAYED_PROCESSING","since":seconds,"reason":"…"}    the last two are ours and may be absent
"""

import logging
from dataclasses import dataclass
from typing import Any, Final, final

import msgspec

from uid2.optout.bucket import Bucket
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochSeconds

MEMBER: Final = "manual_override"
DELAYED: Final = "DELAYED_PROCESSING"
SINCE: Final = "since"
REASON: Final = "reason"
LARGEST: Final = 64 << 10
LONGEST_REASON: Final = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Halt:
    """Production is halted; since when and why as far as the object says it."""

    since: EpochSeconds | None = None
    reason: str | None = None


@final
class ManualOverride:
    """Calls block."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        self._bucket = bucket
        self.path = path

    def active(self) -> bool:
        """Whether production is halted; an object that is absent, unreadable or says anything else halts nothing."""
        return self.halt() is not None

    def halt(self) -> Halt | None:
        """None while nothing halts production."""
        try:
            document = msgspec.json.decode(self._bucket.read(self.path, LARGEST))
        except StoreUnavailableError:
            return None
        except (msgspec.DecodeError, RecursionError):
            _log.error("manual_override_error: %s is not JSON and halts nothing", self.path)
            return None
        value = document.get(MEMBER) if isinstance(document, dict) else None
        if not isinstance(value, str) or value.upper() != DELAYED:
            return None
        return Halt(_since(document.get(SINCE)), _reason(document.get(REASON)))

    def set(self, since: EpochSeconds, reason: str) -> None:
        """Halt production. StoreUnavailableError."""
        document = {MEMBER: DELAYED, SINCE: since, REASON: reason[:LONGEST_REASON]}
        self._bucket.put(self.path, msgspec.json.encode(document))

    def reset(self) -> None:
        """Let production go on. StoreUnavailableError."""
        self._bucket.delete(self.path)


def _since(value: Any) -> EpochSeconds | None:
    return EpochSeconds(value) if type(value) is int and value >= 0 else None


def _reason(value: Any) -> str | None:
    return value[:LONGEST_REASON] if isinstance(value, str) else None
