"""Where time and randomness enter the program."""

import os
import time
from collections.abc import Iterable
from typing import Protocol

from uid2.protocol.ids import EpochMillis


class Clock(Protocol):
    def now_ms(self) -> EpochMillis:
        """Wall clock, milliseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean something."""
        ...


class Entropy(Protocol):
    def bytes(self, n: int) -> bytes:
        """`n` unpredictable bytes."""
        ...


class SystemClock:
    def now_ms(self) -> EpochMillis:
        return EpochMillis(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()


class FixedClock:
    """Stands still until it is set or advanced; advancing moves both clocks, setting only the wall clock."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> EpochMillis:
        return EpochMillis(self._now_ms)

    def monotonic(self) -> float:
        return self._monotonic_ms / 1000

    def set(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def advance(self, milliseconds: int) -> None:
        if milliseconds < 0:
            raise ValueError("a clock advances; use set() to step the wall clock back")
        self._now_ms += milliseconds
        self._monotonic_ms += milliseconds


class SystemEntropy:
    def bytes(self, n: int) -> bytes:
        return os.urandom(n)


class SequenceEntropy:
    """Gives the listed byte strings in order; each must have the length that is asked for."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = iter(values)

    def bytes(self, n: int) -> bytes:
        value = next(self._values, None)
        if value is None:
            raise ValueError("the sequence is used up")
        if len(value) != n:
            raise ValueError(f"{n} bytes were asked for, the sequence holds {len(value)}")
        return value
