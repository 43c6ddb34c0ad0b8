"""A start passes over segments that are in files, and behaves as if it had read them."""

import asyncio
import os
from pathlib import Path

import pytest

from uid2.optout import queue_log
from uid2.optout.messages import MARK_LENGTH, OptOutMessage
from uid2.optout.queue_log import QueueLog
from uid2.optout.queue_marks import SegmentMarks, encode_marks, read_marks
from uid2.optout.queue_progress import Progress, write_progress
from uid2.optout.recent import RecentMessages
from uid2.optout.tail import Tail
from uid2.protocol.ids import EpochMillis

COUNT = 40
SEGMENT_BYTES = 1000


def message(number: int) -> OptOutMessage:
    """Every fifth comes without an id of its attempt."""
    return OptOutMessage(number.to_bytes(32, "big"), bytes(33), trace_id=f"attempt {number}" if number % 5 else None)


def opened(folder: Path, told: list[int] | None = None) -> QueueLog:
    def on_record(record: queue_log.Record, _: OptOutMessage) -> None:
        if told is not None:
            told.append(record.number)

    return QueueLog(folder, b"12345678", on_record, segment_bytes=SEGMENT_BYTES)


def segments(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.log"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A queue of several segments, of whose messages production has written all but the last three."""
    folder = tmp_path / "q"
    log = opened(folder)
    for number in range(1, COUNT + 1):
        assert log.append([message(number)], number) == [number]
    assert len(segments(folder)) > 5
    write_progress(folder, Progress(COUNT - 3))
    return folder


def assert_as_before(folder: Path) -> list[int]:
    """Repeated attempts are known, others get new numbers; what was told at the start."""
    told: list[int] = []
    log = opened(folder, told)
    for number in range(1, COUNT + 1):
        if message(number).mark is not None:
            assert log.append([message(number)], 1) == [number]
    assert log.last == COUNT
    assert log.append([message(COUNT + 1)], 1) == [COUNT + 1]
    assert [record.number for record in log.records_after(0)] == list(range(1, COUNT + 2))
    return told[: told.index(COUNT) + 1]


def test_only_the_last_two_segments_are_read(folder: Path) -> None:
    first = segments(folder)[-2]
    assert assert_as_before(folder) == list(range(first, COUNT + 1))


def test_what_is_in_no_file_is_read(folder: Path) -> None:
    for upto in (0, segments(folder)[2] - 2):
        write_progress(folder, Progress(upto))
        told: list[int] = []
        opened(folder, told)
        assert told == list(range(max(first for first in segments(folder) if first <= upto + 1), COUNT + 1))


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("harm", ["lost", "unreadable", "empty", "cut", "flipped", "of another segment"])
def test_marks_that_are_not_sound_are_not_used(folder: Path, which: int, harm: str) -> None:
    first = segments(folder)[which]
    file = folder / f"{first:020d}.marks"
    data = file.read_bytes()
    match harm:
        case "lost":
            file.unlink()
        case "unreadable":
            file.unlink()
            file.mkdir()
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(data[: -MARK_LENGTH - 8])
        case "flipped":
            file.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])
        case _:
            found = read_marks(data)
            assert found is not None
            file.write_bytes(encode_marks(SegmentMarks(found.size + 1, found.last, found.numbers)))
    assert assert_as_before(folder) == list(range(first, COUNT + 1))


def test_every_cut_and_every_flipped_bit_is_noticed() -> None:
    data = encode_marks(SegmentMarks(1000, 12, {bytes([n]) * MARK_LENGTH: n for n in (3, 7, 12)}))
    assert read_marks(data) == SegmentMarks(1000, 12, {bytes([n]) * MARK_LENGTH: n for n in (3, 7, 12)})
    assert read_marks(encode_marks(SegmentMarks(0, 0, {}))) == SegmentMarks(0, 0, {})
    for cut in range(len(data)):
        assert read_marks(data[:cut]) is None
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        assert read_marks(bytes(broken)) is None


def test_a_reader_far_behind_misses_nothing(folder: Path) -> None:
    recent = RecentMessages()
    log = QueueLog(folder, b"12345678", recent.add, segment_bytes=SEGMENT_BYTES)
    tail = Tail(log, recent, 0, lambda: EpochMillis(1000))

    async def numbers_after(number: int) -> list[int]:
        page = await tail.page(f"{log.id}-{number}", 0)
        assert not page.gap
        return [found.number for found in page.messages]

    for number in range(COUNT + 1):
        assert asyncio.run(numbers_after(number)) == list(range(number + 1, COUNT + 1))


def test_a_disk_that_takes_no_marks_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.open

    def full(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if ".marks" in str(path):
            raise OSError(28, "No space left on device")
        return write(path, flags, mode)

    folder = tmp_path / "q"
    monkeypatch.setattr(os, "open", full)
    log = opened(folder)
    for number in range(1, COUNT + 1):
        assert log.append([message(number)], number) == [number]
    monkeypatch.undo()
    assert not list(folder.glob("*.marks"))
    assert assert_as_before(folder) == list(range(1, COUNT + 1))


def test_marks_go_with_their_segment(folder: Path) -> None:
    opened(folder).drop_until(COUNT)
    assert [path.name for path in folder.glob("*.marks")] == []
    assert len(segments(folder)) == 1


def test_the_oldest_marks_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_log, "MARKS_KEPT", 20)
    log = opened(folder)
    for last in range(COUNT, 2 * COUNT):
        named = [n for n in range(1, last + 1) if n % 5]
        known = [n for n in named if (mark := message(n).mark) is not None and log.knows(mark)]
        assert 20 <= len(known) <= 22
        assert known == named[-len(known) :]
        log.append([message(last + 1)], 1)
