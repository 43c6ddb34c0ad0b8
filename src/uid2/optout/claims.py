"""Which messages are in files or about to be: the claims of all producers of one bucket, in one order.

    <folder>claims/<number, 20 digits>      JSON of `Claim`

messages read ─▶ claims of others read ─▶ claim created ─▶ file written ─▶ messages deleted

A claim is created under the number after the last one that its producer has read, which only one producer can do. So
each knows of every claim before its own, and no message goes into two files: not one that a queue gives twice, nor the
same attempt that came in by two instances. A claim whose file does not come is void after a while.
"""

import logging
import re
import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol, final

import msgspec

from uid2.optout.bucket import Bucket
from uid2.optout.messages import MARK_LENGTH, QueuedMessage
from uid2.protocol.errors import StoreUnavailableError, Uid2Error
from uid2.protocol.ids import EpochSeconds
from uid2.service.clock import Clock

# How long a message that is in a file is known. Repeated attempts and deliveries come within minutes.
KEPT_SECONDS: Final = 12 * 3600
# Longer than any write of a file takes.
VOID_SECONDS: Final = 600.0
READERS: Final = 8
_NAME: Final = re.compile(r"[0-9]{20}", re.ASCII)

_log = logging.getLogger(__name__)


class Claim(msgspec.Struct, frozen=True):
    """`marks`: 16 bytes of each message; `at`, `start`: seconds, when it was made and the oldest message.

    `dropped`: the messages were denied and go into no delta; nothing is to come any more.
    """

    path: str
    at: int
    start: int
    marks: bytes
    dropped: bool = False


@dataclass(slots=True)
class Review:
    """Messages by what is known of them.

    `repeated` are the same as one of `fresh`, `finished` are in a file, `pending` may soon be in another producer's.
    """

    fresh: list[QueuedMessage] = field(default_factory=list)
    repeated: list[QueuedMessage] = field(default_factory=list)
    finished: list[QueuedMessage] = field(default_factory=list)
    pending: list[QueuedMessage] = field(default_factory=list)


class Claims(Protocol):
    """Calls block. StoreUnavailableError."""

    def refresh(self) -> None:
        """Read what others have claimed."""
        ...

    def seen(self, paths: Collection[str]) -> None:
        """These files are in the bucket."""
        ...

    def review(self, messages: Iterable[QueuedMessage]) -> Review: ...

    def claim(self, path: str, messages: Sequence[QueuedMessage]) -> bool:
        """Whether the messages are this producer's now; otherwise others were faster and a review is due."""
        ...

    def record(self, path: str, messages: Sequence[QueuedMessage], *, dropped: bool) -> None:
        """Claim in any case."""
        ...

    def clean(self) -> None:
        """Delete claims that have become old."""
        ...


@final
class NoClaims:
    """For a bucket with one queue that gives each message once, to one producer."""

    def refresh(self) -> None:
        pass

    def seen(self, paths: Collection[str]) -> None:
        pass

    def review(self, messages: Iterable[QueuedMessage]) -> Review:
        return Review(fresh=list(messages))

    def claim(self, path: str, messages: Sequence[QueuedMessage]) -> bool:  # noqa: ARG002 - all are its own
        return True

    def record(self, path: str, messages: Sequence[QueuedMessage], *, dropped: bool) -> None:
        pass

    def clean(self) -> None:
        pass


@final
class ClaimBook:
    """Safe to call from any thread."""

    def __init__(self, bucket: Bucket, folder: str, clock: Clock) -> None:
        self._bucket = bucket
        self._folder = f"{folder}claims/"
        self._clock = clock
        self._lock = threading.RLock()
        self._newest = 0
        self._newest_start = 0
        self._claims: dict[int, Claim] = {}
        self._by_mark: dict[bytes, int] = {}
        # Claims whose file has not been seen, with the time since when, by the clock that never goes back.
        self._open: dict[int, float] = {}
        self._expired: set[int] = set()

    def refresh(self) -> None:
        with self._lock:
            found = self._listed()
            with ThreadPoolExecutor(READERS) as pool:
                for number, claim in zip(found, pool.map(self._read, found), strict=True):
                    self._newest = max(self._newest, number)
                    if claim is not None:
                        self._take(number, claim)
            self._forget_old()

    def seen(self, paths: Collection[str]) -> None:
        with self._lock:
            for number in [number for number in self._open if self._claims[number].path in paths]:
                del self._open[number]

    def review(self, messages: Iterable[QueuedMessage]) -> Review:
        review, marks = Review(), set[bytes]()
        with self._lock:
            for message in messages:
                mark = message.mark
                number = None if mark is None else self._by_mark.get(mark)
                if number is not None and number not in self._open:
                    review.finished.append(message)
                elif number is not None and self._clock.monotonic() - self._open[number] <= VOID_SECONDS:
                    review.pending.append(message)
                elif mark is not None and mark in marks:
                    review.repeated.append(message)
                else:
                    review.fresh.append(message)
                    if mark is not None:
                        marks.add(mark)
        return review

    def claim(self, path: str, messages: Sequence[QueuedMessage]) -> bool:
        return self._claim(path, messages, dropped=False)

    def record(self, path: str, messages: Sequence[QueuedMessage], *, dropped: bool) -> None:
        while not self._claim(path, messages, dropped=dropped):
            pass

    def finished(self, mark: bytes) -> bool:
        """Whether the opt-out is in a file that has been seen."""
        with self._lock:
            number = self._by_mark.get(mark)
            return number is not None and number not in self._open

    @property
    def horizon(self) -> EpochSeconds:
        """What is older than this and not known here was put into a file long ago."""
        return EpochSeconds(max(0, min(self._newest_start, self._now()) - KEPT_SECONDS))

    def clean(self) -> None:
        with self._lock:
            # The newest stays: numbers go on from it.
            for number in [number for number in self._expired if number != self._newest]:
                try:
                    self._bucket.delete(self._path(number))
                except Uid2Error as error:
                    _log.warning("an old claim stays for now: %s", error.message)
                    return
                self._expired.discard(number)

    def _claim(self, path: str, messages: Sequence[QueuedMessage], *, dropped: bool) -> bool:
        marks = b"".join(mark for mark in (message.mark for message in messages) if mark is not None)
        start = min((message.timestamp for message in messages), default=EpochSeconds(0))
        claim = Claim(path, self._now(), start, marks, dropped)
        with self._lock:
            number = self._newest + 1
            if self._bucket.create(self._path(number), msgspec.json.encode(claim)):
                self._newest = number
                self._take(number, claim)
                return True
            self.refresh()
            # It may have been written by an attempt that seemed to fail.
            if self._newest < number:
                raise StoreUnavailableError(
                    f"{self._path(number)} is there and is not listed",
                    next_step="check that the store lists what it holds at once",
                )
            there = self._claims.get(number)
            return there is not None and there.path == path

    def _take(self, number: int, claim: Claim) -> None:
        self._claims[number] = claim
        self._newest_start = max(self._newest_start, claim.start)
        if not claim.dropped:
            self._open[number] = self._clock.monotonic()
        for offset in range(0, len(claim.marks) - MARK_LENGTH + 1, MARK_LENGTH):
            self._by_mark[claim.marks[offset : offset + MARK_LENGTH]] = number

    def _forget_old(self) -> None:
        oldest = self._now() - KEPT_SECONDS
        for number in [number for number, claim in self._claims.items() if claim.at < oldest]:
            claim = self._claims.pop(number)
            self._open.pop(number, None)
            self._expired.add(number)
            for offset in range(0, len(claim.marks) - MARK_LENGTH + 1, MARK_LENGTH):
                mark = claim.marks[offset : offset + MARK_LENGTH]
                if self._by_mark.get(mark) == number:
                    del self._by_mark[mark]

    def _listed(self) -> list[int]:
        """The numbers above the newest one known, ascending; names that are no claims are passed over."""
        names = (path.rpartition("/")[2] for path in self._bucket.list_after(self._folder, f"{self._newest:020d}"))
        return sorted(number for number in (int(name) for name in names if _NAME.fullmatch(name)) if number)

    def _read(self, number: int) -> Claim | None:
        path = self._path(number)
        try:
            return msgspec.json.decode(self._bucket.read(path), type=Claim)
        except msgspec.DecodeError:
            _log.error("%s is no claim and is passed over", path, extra={"next_step": "delete it"})
            return None
        except StoreUnavailableError:
            # Old ones are deleted by whoever comes first.
            if self._bucket.list(path):
                raise
            return None

    def _path(self, number: int) -> str:
        return f"{self._folder}{number:020d}"

    def _now(self) -> EpochSeconds:
        return EpochSeconds(self._clock.now_ms() // 1000)
