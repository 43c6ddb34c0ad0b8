"""One opt-out, a great many times: under one id one entry; under many bounded memory, and one row in a partition."""

import asyncio
import sys
import tracemalloc
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import NOW, OptOut

from uid2.optout import partitions, queue_log
from uid2.optout.messages import OptOutMessage
from uid2.optout.queue_log import QueueLog
from uid2.optout.recent import CAPACITY
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutEntry, encode_entry

MILLION = 1_000_000
BATCH = 1000
MIDNIGHT = (NOW // 86_400_000 + 1) * 86_400_000


def message(trace: str) -> OptOutMessage:
    return OptOutMessage(b"\x07" * 32, b"\x08" * 32, trace_id=trace)


@pytest.mark.slow
def test_a_million_times_the_same_id_is_one_entry(tmp_path: Path) -> None:
    log = QueueLog(tmp_path / "q", b"12345678")
    batch = [message("one")] * BATCH
    for _ in range(MILLION // BATCH):
        assert log.append(batch, 1000) == [1] * BATCH
    assert [record.number for record in log.records_after(0)] == [1]
    assert sum(file.stat().st_size for file in (tmp_path / "q").glob("*.log")) < 1000


@pytest.mark.slow
def test_many_ids_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long queue leaves in memory does not depend on its length."""
    monkeypatch.setattr(queue_log, "MARKS_KEPT", 5000)
    service = OptOut(tmp_path)
    log = QueueLog(service.settings.optout_queue_dir, b"12345678", service.context.tail._recent.add)
    tracemalloc.start()
    sizes = []
    for turn in range(120):
        log.append([message(f"{turn}-{n}") for n in range(BATCH)], NOW)
        if turn in (39, 119):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert log.last == 120 * BATCH > 5 * CAPACITY
    # By then every bound is reached: three times as many opt-outs must not take more than a little.
    assert sizes[1] < 1.2 * sizes[0]


@pytest.mark.slow
def test_all_of_them_become_one_row_of_a_partition(tmp_path: Path) -> None:
    async def work() -> None:
        service = OptOut(tmp_path, optout_max_messages_per_file=5000)
        log = QueueLog(service.settings.optout_queue_dir, b"12345678")
        for turn in range(40):
            log.append([message(f"{turn}-{n}") for n in range(BATCH)], NOW + turn * 1000)
        service = await OptOut(tmp_path, optout_max_messages_per_file=5000).start()
        service.clock.set(NOW + 40_000)
        assert (await service.produce())["result"]["entries_processed"] == 40 * BATCH
        service.clock.set(MIDNIGHT + 5000)
        await service.context.files.refresh()
        producer = service.context.partitions
        assert producer is not None
        path = await producer.step()
        assert path is not None
        rows = (tmp_path / "bucket" / path).read_bytes()
        assert len(rows) == 3 * ENTRY_LENGTH
        wanted = OptOutEntry(b"\x07" * 32, b"\x08" * 32, EpochSeconds(NOW // 1000 + 39))
        assert rows[ENTRY_LENGTH : 2 * ENTRY_LENGTH] == encode_entry(wanted)

    asyncio.run(work())


def test_repetitions_are_merged_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "COMPACTED_ROWS", 10_000)
    entries = [encode_entry(OptOutEntry(bytes([n]) * 32, b"\x08" * 32, EpochSeconds(n))) for n in range(1, 101)]
    delta = b"".join(entries) * 50
    tracemalloc.start()
    merged = partitions.merged_entries((f"delta {n}", delta) for n in range(20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert merged == b"".join(entries)
    # All 100,000 rows at once would take more than 100 bytes each.
    assert peak < 5_000_000
