"""How far production has come in the local queue: `progress.json`, replaced whole, written by the one producer.

`upto`: every message up to it is in a file. `beyond`: single ones above it. `past`: former values of `upto` with the
time at which they were reached; they tell which messages any reader of the files must have seen by now.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from uid2.optout.durable_files import replace_file
from uid2.protocol.errors import StoreFormatError

FILE: Final = "progress.json"
KEPT_MS: Final = 2 * 3600 * 1000
KEPT_STEPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    upto: int = 0
    beyond: frozenset[int] = frozenset()
    past: tuple[tuple[int, int], ...] = ()

    def done(self, number: int) -> bool:
        return number <= self.upto or number in self.beyond

    def with_done(self, numbers: Iterable[int], known: Iterable[int], now_ms: int) -> "Progress":
        """`known` are the numbers in the queue above `upto`, ascending; places without a message count as done."""
        beyond = set(self.beyond) | {number for number in numbers if number > self.upto}
        upto = self.upto
        for number in known:
            if number <= upto:
                continue
            if number not in beyond:
                break
            beyond.discard(number)
            upto = number
        past = (*self.past, (now_ms, upto))
        kept = [step for step in past if step[0] > now_ms - KEPT_MS]
        older = past[: len(past) - len(kept)]
        return Progress(upto, frozenset(beyond), (*older[-1:], *kept)[-KEPT_STEPS:])

    def settled(self, before_ms: int) -> int:
        """What was done at that time; 0 when that is not known."""
        return max((upto for at, upto in self.past if at <= before_ms), default=0)


def read_progress(folder: Path) -> Progress:
    """StoreFormatError: the file is damaged, which never happens by a crash."""
    try:
        data = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return Progress()
    try:
        document: Any = msgspec.json.decode(data)
        return Progress(
            int(document["upto"]),
            frozenset(int(number) for number in document["beyond"]),
            tuple((int(at), int(upto)) for at, upto in document["past"]),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise StoreFormatError(
            "unreadable progress of delta production",
            file=FILE,
            next_step="restore the file, or delete it: every queued opt-out is then written to deltas again",
        ) from None


def write_progress(folder: Path, progress: Progress) -> None:
    document = {"upto": progress.upto, "beyond": sorted(progress.beyond), "past": progress.past}
    replace_file(folder / FILE, msgspec.json.encode(document))
