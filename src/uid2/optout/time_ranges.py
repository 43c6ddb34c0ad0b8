"""Ranges of time in the two traffic files (opt-out chapter, 6.4 and 6.5)."""

from typing import Any, Final, NamedTuple

from uid2.protocol.errors import ConfigurationError

LONGEST_SPAN: Final = 86_400


class TimeRange(NamedTuple):
    """Epoch seconds, both ends included."""

    start: int
    end: int

    def holds(self, timestamp: int) -> bool:
        return self.start <= timestamp <= self.end


def parse_range(value: Any, where: str) -> TimeRange:
    """Exactly two whole numbers, the first below the second, at most a day apart; ConfigurationError."""
    if not isinstance(value, list) or len(value) != 2 or any(type(number) is not int for number in value):
        raise ConfigurationError(
            f"{where} must be two times in epoch seconds", next_step="write [start, end], both whole numbers"
        )
    found = TimeRange(*value)
    if not found.start < found.end:
        raise ConfigurationError(f"{where} must end after its start", next_step="swap or correct the two times")
    if found.end - found.start > LONGEST_SPAN:
        raise ConfigurationError(f"{where} spans more than 86400 seconds", next_step="split it into several ranges")
    return found
