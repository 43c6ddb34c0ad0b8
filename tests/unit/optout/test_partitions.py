"""Daily partitions, their turns, what they merge; names under clocks that were set wrong; retention."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import NOW, OptOut

from uid2.optout.bucket import FolderBucket
from uid2.optout.listing import ListedFile, for_operators, listed_files
from uid2.optout.partitions import PartitionRules, expired_deltas
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import OptOutFileKind, OptOutFileName, iter_entries

DAY = 86_400
MIDNIGHT = NOW // 1000 // DAY * DAY + DAY
RULES = PartitionRules("optout/", 0, 3, 300)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def file_at(kind: OptOutFileKind, at: int, replica: int = 0) -> ListedFile:
    name = OptOutFileName(kind, replica, EpochSeconds(at), at % 2**32)
    (found,) = listed_files([f"optout/{kind}/{name.format()}"])
    return found


def delta(at: int) -> ListedFile:
    return file_at(OptOutFileKind.DELTA, at)


def partition(at: int, replica: int = 0) -> ListedFile:
    return file_at(OptOutFileKind.PARTITION, at, replica)


@pytest.mark.parametrize(
    ("replica", "second", "due"),
    [(0, 0, True), (0, 899, True), (0, 900, False), (1, 900, True), (2, 1800, True), (0, 2700, True), (1, 0, False)],
)
def test_whose_turn_it_is(replica: int, second: int, due: bool) -> None:
    rules = PartitionRules("optout/", replica, 3, 300)
    assert rules.due([], EpochSeconds(MIDNIGHT + second)) is due


def test_one_partition_a_day() -> None:
    now = EpochSeconds(MIDNIGHT + 100)
    assert RULES.due([partition(MIDNIGHT - 1)], now)
    assert not RULES.due([partition(MIDNIGHT + 1)], now)
    # Test data does not count.
    assert RULES.due([partition(MIDNIGHT + 1, replica=999)], now)


def test_what_is_merged_overlaps_by_three_intervals() -> None:
    last, now = MIDNIGHT - DAY + 60, EpochSeconds(MIDNIGHT + 60)
    files = [partition(last), *(delta(at) for at in (last - 901, last - 900, last - 899, last, now - 1, now, now + 1))]
    assert [file.created for file in RULES.inputs(files, now)] == [last - 899, last, now - 1]
    assert [file.created for file in RULES.inputs(files[1:3], now)] == [last - 901, last - 900]


def entries_of(folder: Path, kind: str) -> list[list[int]]:
    found = []
    for path in sorted((folder / "bucket").rglob(f"optout-{kind}-*.dat")):
        entries = [e for e in iter_entries(path.read_bytes(), Environment.TEST) if not e.special]
        found.append([int.from_bytes(e.identity_hash[:4], "big") for e in entries])
    return found


def test_a_day_of_opt_outs_becomes_one_sorted_partition(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        for n in (5, 3, 9, 3):
            await service.replicate(n)
            await service.produce()
            service.clock.advance(400_000)
        producer = service.context.partitions
        assert producer is not None
        service.clock.set(MIDNIGHT * 1000 + 5000)
        await service.context.files.refresh()
        path = await producer.step()
        assert path is not None
        assert path.startswith("optout/partition/optout-partition-000_")
        assert entries_of(tmp_path, "partition") == [[3, 5, 9]]
        # Once a day; the next one holds what has come since.
        assert await producer.step() is None
        await service.replicate(7)
        await service.produce()
        service.clock.set((MIDNIGHT + DAY) * 1000 + 5000)
        await service.context.files.refresh()
        assert await producer.step() is not None
        assert entries_of(tmp_path, "partition") == [[3, 5, 9], [7]]
        assert b"uid2_optout_partition_produced_total" in service.context.metrics.render()

    run(work())


def test_a_damaged_delta_stops_the_partition_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reference writes what it had read by then, and nobody gets the rest any more."""

    async def work() -> None:
        service = await OptOut(tmp_path).start()
        for n in (1, 2):
            await service.replicate(n)
            await service.produce()
            service.clock.advance(1000)
        broken = sorted((tmp_path / "bucket").rglob("*.dat"))[0]
        whole = broken.read_bytes()
        broken.write_bytes(whole[:100])
        service.clock.set(MIDNIGHT * 1000 + 5000)
        await service.context.files.refresh()
        producer = service.context.partitions
        assert producer is not None
        with caplog.at_level(logging.ERROR):
            assert await producer.step() is None
            assert await producer.step() is None
        said = [r for r in caplog.records if r.name == "uid2.optout.partitions" and r.levelno == logging.ERROR]
        assert [broken.name in record.getMessage() for record in said] == [True]
        assert entries_of(tmp_path, "partition") == []
        broken.write_bytes(whole)
        assert await producer.step() is not None
        assert entries_of(tmp_path, "partition") == [[1, 2]]

    run(work())


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_a_clock_that_steps_hides_no_opt_out(tmp_path: Path, hours: int) -> None:
    """A fresh reader gets everything that was ever taken, whatever the clock did before and after a partition."""

    async def work() -> None:
        service = await OptOut(tmp_path).start()
        producer = service.context.partitions
        assert producer is not None
        moments = [NOW, MIDNIGHT * 1000 + 1000, MIDNIGHT * 1000 + hours * 3_600_000, MIDNIGHT * 1000 + 60_000]
        for n, moment in enumerate(moments):
            service.clock.set(moment)
            await service.replicate(n)
            await service.produce()
            await service.context.files.refresh()
            await producer.step()
        for later in (1, 2, 3):
            service.clock.set((MIDNIGHT + later * DAY) * 1000 + 1000)
            await service.replicate(10 + later)
            await service.produce()
            await service.context.files.refresh()
            await producer.step()
            await service.context.files.refresh()
            files = service.context.files.files
            assert files is not None
            listed = for_operators(files, 300)
            found = set()
            for file in listed:
                data = service.context.bucket.read(file.path)
                found |= {
                    int.from_bytes(e.identity_hash[:4], "big")
                    for e in iter_entries(data, Environment.TEST)
                    if not e.special
                }
            assert found == {0, 1, 2, 3, *range(11, 11 + later)}

    run(work())


def test_an_interrupted_file_of_yesterday_gets_a_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its old name it might lie behind a partition that was made meanwhile, where nobody looks."""

    def unreachable(*_: Any) -> None:
        raise StoreUnavailableError("the bucket is away")

    async def work() -> None:
        service = await OptOut(tmp_path).start()
        await service.replicate(1)
        with monkeypatch.context() as patch:
            patch.setattr(FolderBucket, "put", unreachable)
            assert (await service.produce())["state"] == "failed"
        planned = OptOutFileName.parse((tmp_path / "data/queue/plan.json").read_text())
        assert planned is not None
        service.clock.advance(DAY * 1000)
        again = await OptOut(tmp_path, service.clock).start()
        await again.produce()
        (path,) = (tmp_path / "bucket").rglob("*.dat")
        made = OptOutFileName.parse(path.name)
        assert made is not None
        assert made.created == service.clock.now_ms() // 1000
        assert again.recorded() == [1]

    run(work())


def test_deltas_expire_only_once_a_partition_holds_them() -> None:
    now = EpochSeconds(MIDNIGHT)
    old, young = delta(now - 91 * DAY), delta(now - 89 * DAY)
    assert expired_deltas([old, young], now, 90 * DAY, 300) == []
    assert expired_deltas([old, young, partition(now - 95 * DAY)], now, 90 * DAY, 300) == []
    assert expired_deltas([old, young, partition(now - 10)], now, 90 * DAY, 300) == [old]
    assert expired_deltas([partition(now - 400 * DAY), partition(now)], now, 90 * DAY, 300) == []


def test_an_opt_out_of_a_foreign_name_is_left_alone(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        foreign = tmp_path / "bucket/optout/delta/2024-08-01/notes.txt"
        foreign.parent.mkdir(parents=True)
        foreign.write_text("not a delta")
        (foreign.parent / "optout-delta-000_no-time_zz.dat").write_bytes(b"x" * 71)
        await service.replicate(4)
        await service.produce()
        service.clock.set(MIDNIGHT * 1000 + 5000)
        await service.context.files.refresh()
        assert service.context.partitions is not None
        assert await service.context.partitions.step() is not None
        assert entries_of(tmp_path, "partition") == [[4]]
        assert foreign.read_text() == "not a delta"

    run(work())
