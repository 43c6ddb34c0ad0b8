"""The local queue: one folder, shared by any number of processes of one machine.

    queue/id             a random name of this log, the first half of every cursor
    queue/lock           exclusive to append, shared to read what is new
    queue/<first>.log    segments of records in one order for all; the highest is the one that grows
    queue/<first>.marks  which attempts a segment that has ended holds
    queue/progress.json  how far production has come

An append is on the disk when it returns. What a crash has left half written was never confirmed and is cut off by the
next append. Numbers only grow. Segments go when production is past them and nobody can want them any more.
"""

import contextlib
import itertools
import logging
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

from uid2.optout.durable_files import locked, make_folder, replace_file, sync_folder, write_at
from uid2.optout.messages import OptOutMessage, UnusableMessageError
from uid2.optout.queue_marks import SegmentMarks, encode_marks, read_marks
from uid2.optout.queue_progress import Progress, read_progress
from uid2.optout.queue_records import Record, encode_record, read_records
from uid2.protocol.errors import DurabilityError, StoreUnavailableError

SEGMENT_BYTES: Final = 4 << 20
MARKS_KEPT: Final = 500_000
_SUFFIX: Final = ".log"
_MARKS: Final = ".marks"

_log = logging.getLogger(__name__)


@final
class QueueLog:
    """Safe to call from any thread; every call may block for the disk.

    `on_record` is told of each record in order, at the start of those in the last two segments at least.
    """

    def __init__(
        self,
        folder: Path,
        new_id: bytes,
        on_record: Callable[[Record, OptOutMessage], None] = lambda _record, _message: None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.folder = folder
        self._on_record = on_record
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._marks: dict[bytes, int] = {}
        self._segment_marks: dict[bytes, int] = {}
        self._segment: int | None = None
        self._offset = 0
        self._last = 0
        # A number that was asked for, its segment, and where what follows it begins there: production asks in order.
        self._place = (0, 0, 0)
        try:
            make_folder(folder)
            with self._mutex, locked(self._lock_file):
                if not (folder / "id").exists():
                    replace_file(folder / "id", new_id.hex().encode())
                self.id = (folder / "id").read_text()
                upto = self.progress().upto
                self._recall(upto)
                self._catch_up()
                # A log that lost its end with the machine must not give out numbers that production has passed.
                if upto > self._last:
                    self._last = upto
                    self._start_segment()
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot open the opt-out queue: {error.strerror}",
                next_step=f"check the space and rights of {folder}",
            ) from None

    @property
    def last(self) -> int:
        """The highest number known here."""
        return self._last

    def append(self, messages: Sequence[OptOutMessage], now_ms: int) -> list[int]:
        """Make opt-outs durable, in order; their numbers. One that was already taken gets the number it has.

        DurabilityError: none of them is kept.
        """
        return self.append_sent([(message, now_ms) for message in messages])

    def append_sent(self, messages: Sequence[tuple[OptOutMessage, int]]) -> list[int]:
        """As `append`, each opt-out with a time of its own in milliseconds."""
        records = [(message, sent, message.without_person().encode()) for message, sent in messages]
        try:
            with self._mutex, locked(self._lock_file):
                self._catch_up()
                return self._append(records)
        except OSError as error:
            raise DurabilityError(
                f"the opt-out could not be written: {error.strerror}",
                next_step=f"free space on the disk of {self.folder}; callers may then repeat their request",
            ) from None

    def knows(self, mark: bytes) -> bool:
        """Whether an opt-out with this mark is among the newest here."""
        return mark in self._marks

    def refresh(self) -> int:
        """Read what other processes have appended; the highest number, of whose records all were told.

        StoreUnavailableError.
        """
        try:
            with self._mutex, locked(self._lock_file, shared=True):
                self._catch_up()
                return self._last
        except OSError as error:
            raise self._unreadable(error) from None

    def settle(self) -> None:
        """Put on the disk what a process may have left without, so that files never know more than the queue."""
        try:
            with self._mutex, locked(self._lock_file):
                self._catch_up()
                if self._segment is not None:
                    self._sync_segment()
        except OSError as error:
            raise self._unreadable(error) from None

    def records_after(self, number: int) -> Iterator[Record]:
        """The records above `number` up to the last known; a segment that is gone is passed over."""
        last = self._last
        firsts = self._segments()
        for first in firsts[max(0, bisect_right(firsts, number + 1) - 1) :]:
            if first > last:
                return
            known, segment, offset = self._place
            start = offset if first == segment and known <= number else 0
            try:
                data = self._read_from(first, start)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unreadable(error) from None
            for record, end in read_records(data):
                if record.number <= number:
                    self._place = (record.number, first, start + end)
                elif record.number <= last:
                    yield record

    @property
    def oldest(self) -> int:
        """The lowest number that may still be here."""
        return next(iter(self._segments()), self._last + 1)

    def progress(self) -> Progress:
        return read_progress(self.folder)

    def drop_until(self, number: int) -> None:
        """Delete the segments whose every record is at or below `number`, never the last one."""
        with self._mutex, locked(self._lock_file):
            firsts = self._segments()
            for first, following in itertools.pairwise(firsts):
                if following - 1 <= number:
                    self._marks_path(first).unlink(missing_ok=True)
                    self._path(first).unlink(missing_ok=True)

    @property
    def _lock_file(self) -> Path:
        return self.folder / "lock"

    def _append(self, records: Sequence[tuple[OptOutMessage, int, bytes]]) -> list[int]:
        if self._segment is None or self._offset >= self._segment_bytes:
            self._start_segment()
        numbers: list[int] = []
        fresh: list[tuple[Record, OptOutMessage]] = []
        in_batch: dict[bytes, int] = {}
        following = self._last + 1
        for message, sent, body in records:
            mark = message.mark
            known = None if mark is None else self._marks.get(mark, in_batch.get(mark))
            if known is None:
                known = following
                following += 1
                fresh.append((Record(known, sent, body), message))
                if mark is not None:
                    in_batch[mark] = known
            numbers.append(known)
        self._write(b"".join(encode_record(record) for record, _ in fresh))
        for record, message in fresh:
            self._take(record, message)
        return numbers

    def _write(self, data: bytes) -> None:
        """Also for no data: a repeated opt-out is confirmed only when the first one is on the disk."""
        assert self._segment is not None, "a segment is begun before"
        descriptor = os.open(self._path(self._segment), os.O_WRONLY | os.O_CLOEXEC)
        try:
            try:
                # Remains of an append that a crash has cut: shorter data would leave some of them behind.
                if os.fstat(descriptor).st_size > self._offset:
                    os.ftruncate(descriptor, self._offset)
                write_at(descriptor, data, self._offset)
                os.fsync(descriptor)
            except OSError:
                # What cannot be cut off now is complete or is cut off by the next append.
                try:
                    os.ftruncate(descriptor, self._offset)
                except OSError:
                    _log.error("the end of the opt-out queue could not be cut off after a failed write")
                raise
        finally:
            os.close(descriptor)
        self._offset += len(data)

    def _start_segment(self) -> None:
        if self._segment is not None:
            self._sync_segment()
        first = self._last + 1
        os.close(os.open(self._path(first), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_folder(self.folder)
        if self._segment is not None:
            self._keep_marks(self._segment)
        self._enter(first)
        self._offset = os.path.getsize(self._path(first))

    def _enter(self, first: int) -> None:
        self._segment, self._offset = first, 0
        self._segment_marks = {}

    def _keep_marks(self, first: int) -> None:
        # Without them the next start takes longer, that is all.
        with contextlib.suppress(OSError):
            marks = SegmentMarks(os.path.getsize(self._path(first)), self._last, self._segment_marks)
            replace_file(self._marks_path(first), encode_marks(marks))

    def _recall(self, upto: int) -> None:
        """Pass over the segments that are in files whole and whose marks are kept.

        The rest is read: what waits for a file is checked, and the live tail wants the newest opt-outs themselves.
        """
        for first, following in itertools.pairwise(self._segments()[:-1]):
            try:
                marks = read_marks(self._marks_path(first).read_bytes())
            except OSError:
                return
            if marks is None or following - 1 > upto or marks.size != os.path.getsize(self._path(first)):
                return
            self._marks |= marks.numbers
            self._forget_marks()
            self._last = marks.last
            self._enter(following)

    def _sync_segment(self) -> None:
        assert self._segment is not None, "asked before"
        descriptor = os.open(self._path(self._segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _catch_up(self) -> None:
        """Read on to the end of the last segment."""
        firsts = self._segments()
        if self._segment is None and firsts:
            self._enter(firsts[0])
        while self._segment is not None:
            rest = self._read_segment()
            following = next((first for first in firsts if first > self._segment), None)
            if following is None:
                return
            if rest:
                _log.error(
                    "%d bytes of segment %s of the opt-out queue are damaged",
                    rest,
                    self._path(self._segment).name,
                    extra={"next_step": "keep a copy of the file and check the disk"},
                )
            self._enter(following)

    def _read_segment(self) -> int:
        """Takes the new whole records; gives the number of bytes after them."""
        assert self._segment is not None, "asked before"
        try:
            data = self._read_from(self._segment, self._offset)
        except FileNotFoundError:
            return 0
        base = self._offset
        for record, end in read_records(data):
            try:
                message = OptOutMessage.decode(record.body)
            except UnusableMessageError:
                _log.error("record %d of the opt-out queue holds no opt-out", record.number)
                self._last = max(self._last, record.number)
            else:
                self._take(record, message)
            self._offset = base + end
        return base + len(data) - self._offset

    def _read_from(self, first: int, offset: int) -> bytes:
        with self._path(first).open("rb") as file:
            file.seek(offset)
            return file.read()

    def _take(self, record: Record, message: OptOutMessage) -> None:
        self._last = max(self._last, record.number)
        mark = message.mark
        if mark is not None:
            self._marks[mark] = self._segment_marks[mark] = record.number
            self._forget_marks()
        self._on_record(record, message)

    def _forget_marks(self) -> None:
        # In large pieces: the first key of a dict is found by going over the places of all that went before it.
        surplus = len(self._marks) - MARKS_KEPT
        if surplus > MARKS_KEPT // 8:
            for mark in list(itertools.islice(self._marks, surplus)):
                del self._marks[mark]

    def _segments(self) -> list[int]:
        return sorted(
            int(name[: -len(_SUFFIX)])
            for name in os.listdir(self.folder)
            if name.endswith(_SUFFIX) and name[: -len(_SUFFIX)].isdigit()
        )

    def _path(self, first: int) -> Path:
        return self.folder / f"{first:020d}{_SUFFIX}"

    def _marks_path(self, first: int) -> Path:
        return self._path(first).with_suffix(_MARKS)

    def _unreadable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"cannot read the opt-out queue: {error.strerror}", next_step=f"check the rights of {self.folder}"
        )
