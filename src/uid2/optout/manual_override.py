"""The object that halts delta production until a person removes it (opt-out chapter, 6.6)."""

import logging
from typing import Final, final

import msgspec

from uid2.optout.bucket import Bucket
from uid2.protocol.errors import StoreUnavailableError

MEMBER: Final = "manual_override"
DELAYED: Final = "DELAYED_PROCESSING"
LARGEST: Final = 64 << 10

_log = logging.getLogger(__name__)


@final
class ManualOverride:
    """Calls block."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        self._bucket = bucket
        self.path = path

    def active(self) -> bool:
        """Whether production is halted; an object that is absent, unreadable or says anything else halts nothing."""
        try:
            document = msgspec.json.decode(self._bucket.read(self.path, LARGEST))
        except StoreUnavailableError:
            return False
        except (msgspec.DecodeError, RecursionError):
            _log.error("manual_override_error: %s is not JSON and halts nothing", self.path)
            return False
        value = document.get(MEMBER) if isinstance(document, dict) else None
        return isinstance(value, str) and value.upper() == DELAYED

    def set(self) -> None:
        """Halt production. StoreUnavailableError."""
        self._bucket.put(self.path, msgspec.json.encode({MEMBER: DELAYED}))

    def reset(self) -> None:
        """Let production go on. StoreUnavailableError."""
        self._bucket.delete(self.path)
