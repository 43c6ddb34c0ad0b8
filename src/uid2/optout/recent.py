"""The newest opt-outs of the queue in memory: what the live tail reads while nobody is far behind."""

import threading
from bisect import bisect_right
from typing import Final, final

from uid2.optout.messages import OptOutMessage, QueuedMessage
from uid2.optout.queue_records import Record
from uid2.protocol.ids import EpochMillis

CAPACITY: Final = 20_000


@final
class RecentMessages:
    """Bounded by `capacity`. Safe to call from any thread."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._numbers: list[int] = []
        self._messages: list[QueuedMessage] = []
        self._complete_after = 0

    def add(self, record: Record, message: OptOutMessage) -> None:
        with self._lock:
            if not self._numbers:
                # A log begins to tell in its middle.
                self._complete_after = record.number - 1
            self._numbers.append(record.number)
            self._messages.append(QueuedMessage(record.number, EpochMillis(record.sent), message))
            # Cut in large pieces: one at a time would move the whole list each time.
            surplus = len(self._numbers) - self._capacity
            if surplus >= max(1, self._capacity // 4):
                self._complete_after = self._numbers[surplus - 1]
                del self._numbers[:surplus], self._messages[:surplus]

    def after(self, number: int, limit: int) -> list[QueuedMessage] | None:
        """At most `limit` messages above `number`, in order; None when some of them are no longer here."""
        with self._lock:
            if number < self._complete_after:
                return None
            start = bisect_right(self._numbers, number)
            return self._messages[start : start + limit]
