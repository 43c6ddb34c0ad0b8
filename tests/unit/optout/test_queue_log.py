import asyncio
import os
from pathlib import Path

import pytest

from uid2.optout.bucket import FolderBucket
from uid2.optout.claims import ClaimBook
from uid2.optout.local_queue import LocalQueue
from uid2.optout.messages import OptOutMessage
from uid2.optout.queue_log import QueueLog
from uid2.optout.recent import RecentMessages
from uid2.optout.shared_tail import SharedTail
from uid2.optout.tail import Tail
from uid2.protocol.errors import DurabilityError
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock


def message(number: int, trace: str | None = None) -> OptOutMessage:
    return OptOutMessage(number.to_bytes(32, "big"), bytes(33), trace_id=trace)


def test_two_instances_see_one_order(tmp_path: Path) -> None:
    first, second = QueueLog(tmp_path / "q", b"12345678"), QueueLog(tmp_path / "q", b"87654321")
    assert first.id == second.id
    assert first.append([message(1)], 1000) == [1]
    assert second.append([message(2)], 2000) == [2]
    first.refresh()
    assert [r.number for r in first.records_after(0)] == [1, 2]


def test_records_are_found_after_any_number_in_any_order(tmp_path: Path) -> None:
    log = QueueLog(tmp_path / "q", b"12345678", segment_bytes=1000)
    for number in range(1, 31):
        log.append([message(number)], number)
    assert len(list((tmp_path / "q").glob("*.log"))) > 3
    for after in (0, 5, 6, 29, 12, 30, 6, 0):
        assert [r.sent for r in log.records_after(after)] == list(range(after + 1, 31))


def test_the_same_attempt_counts_once_on_any_instance(tmp_path: Path) -> None:
    first, second = QueueLog(tmp_path / "q", b"12345678"), QueueLog(tmp_path / "q", b"87654321")
    assert first.append([message(1, "a"), message(1, "a")], 1) == [1, 1]
    assert second.append([message(1, "a"), message(2, "a"), message(1, "b"), message(1)], 1) == [1, 2, 3, 4]
    assert QueueLog(tmp_path / "q", b"12345678").append([message(1, "a")], 1) == [1]


def waiting_tail(here: QueueLog, recent: RecentMessages) -> Tail:
    return Tail(here, recent, 0, lambda: EpochMillis(1000))


async def next_numbers(tail: Tail, here: QueueLog, after: int) -> list[int]:
    """What a reader gets that waits; it must be woken, its time is longer than that of the test."""
    page = await tail.page(f"{here.id}-{after}", 30)
    return [message.number for message in page.messages]


def test_what_production_reads_first_is_told_as_well(tmp_path: Path) -> None:
    recent = RecentMessages()
    here = QueueLog(tmp_path / "q", b"12345678", recent.add)
    elsewhere = QueueLog(tmp_path / "q", b"87654321")

    async def follow() -> None:
        tail = waiting_tail(here, recent)
        queue = LocalQueue(here, lambda: EpochMillis(1000), tail.reached)
        following = asyncio.create_task(queue.run())
        try:
            for number in (1, 2, 3):
                reading = asyncio.create_task(next_numbers(tail, here, number - 1))
                await asyncio.sleep(0)
                elsewhere.append([message(number)], 1000)
                with queue.reader():
                    assert here.last == number
                assert await reading == [number]
        finally:
            following.cancel()

    asyncio.run(asyncio.wait_for(follow(), 10))


def test_what_a_failed_write_reads_is_told_by_the_shared_tail(tmp_path: Path) -> None:
    recent = RecentMessages()
    here = QueueLog(tmp_path / "q", b"12345678", recent.add)
    elsewhere = QueueLog(tmp_path / "q", b"87654321")

    async def merge() -> None:
        tail = waiting_tail(here, recent)
        shared = SharedTail(
            here,
            None,
            ClaimBook(FolderBucket(tmp_path), "optout", FixedClock()),
            lambda: (),
            0,
            lambda: EpochMillis(1000),
            lambda _: False,
            tail.reached,
        )
        reading = asyncio.create_task(next_numbers(tail, here, 0))
        await asyncio.sleep(0)
        elsewhere.append([message(1)], 1000)
        # A write reads on before it writes.
        here.settle()
        assert await shared.merge()
        assert await reading == [1]

    asyncio.run(asyncio.wait_for(merge(), 10))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_end_is_overwritten(tmp_path: Path, cut: int) -> None:
    log = QueueLog(tmp_path / "q", b"12345678")
    log.append([message(1), message(2)], 1)
    segment = next((tmp_path / "q").glob("*.log"))
    os.truncate(segment, segment.stat().st_size - cut)
    again = QueueLog(tmp_path / "q", b"12345678")
    assert again.append([message(3)], 1) == [2]
    bodies = [OptOutMessage.decode(r.body) for r in QueueLog(tmp_path / "q", b"12345678").records_after(0)]
    assert bodies == [message(1), message(3)]


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = QueueLog(tmp_path / "q", b"12345678")
    log.append([message(1)], 1)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, bytes(data[:20]), at) if len(data) > 30 else 0)
    with pytest.raises(DurabilityError):
        log.append([message(2)], 1)
    monkeypatch.undo()
    assert log.append([message(3)], 1) == [2]
    assert len(list(log.records_after(0))) == 2
