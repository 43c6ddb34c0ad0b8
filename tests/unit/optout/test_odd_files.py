"""Files that others have written oddly, and clocks far off: every opt-out in them still counts."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import NOW, OptOut

from uid2.bulk.engine import engine_named
from uid2.bulk.tables import OptOutView
from uid2.optout.listing import delta_path
from uid2.optout.partitions import merged_entries
from uid2.optout.traffic_calculator import entry_times
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, EpochSeconds, FirstLevelHash
from uid2.protocol.optout_log import (
    NULL_HASH,
    ONES_HASH,
    OptOutEntry,
    encode_entry,
    end_entry,
    iter_entries,
    start_entry,
)

AT = EpochSeconds(NOW // 1000)
MIDNIGHT = (NOW // 86_400_000 + 1) * 86_400_000
PEOPLE = [OptOutEntry(bytes([n]) * 32, b"\x09" * 31 + bytes([n]), AT) for n in (3, 1, 2)]
STRANGE = OptOutEntry(ONES_HASH, b"\x0a" * 32, AT)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


ODD: dict[str, list[OptOutEntry]] = {
    "no special entries": PEOPLE,
    "only the end": [*PEOPLE, end_entry(AT)],
    "the end first": [end_entry(AT), *PEOPLE, start_entry(AT)],
    "special ones in the middle": [PEOPLE[0], start_entry(AT), *PEOPLE[1:], end_entry(AT), PEOPLE[0]],
    "an end with an id": [start_entry(AT), *PEOPLE, STRANGE],
    "two of each": [start_entry(AT), start_entry(AT), *PEOPLE, end_entry(AT), end_entry(AT)],
}


@pytest.mark.parametrize("name", ODD)
def test_wrong_special_entries_hide_nobody(tmp_path: Path, name: str) -> None:
    data = b"".join(map(encode_entry, ODD[name]))
    file = tmp_path / "optout-delta-000_2024-08-01T10.07.00Z_00000001.dat"
    file.write_bytes(data)
    merged = merged_entries([("delta", data)])
    ordinary = [entry for entry in iter_entries(merged, Environment.TEST) if not entry.special]
    assert ordinary == sorted(PEOPLE, key=lambda entry: entry.identity_hash)
    assert len(entry_times(data)) == sum(not entry.special for entry in ODD[name])
    engine = engine_named("reference")
    engine.build_optout_index([file], tmp_path / "index", Environment.TEST)
    view = OptOutView(engine.open_optouts((tmp_path / "index").read_bytes()))
    assert [view.timestamp_of_hash(FirstLevelHash(bytes([n]) * 32)) for n in range(5)][1:] == [AT, AT, AT, 0]
    assert view.timestamp_of_hash(FirstLevelHash(ONES_HASH)) == 0
    for nobody in (NULL_HASH, ONES_HASH, STRANGE.advertising_id):
        assert view.timestamp_of_id(encode_base64(nobody)) is None


@pytest.mark.parametrize("cut", [1, 40, 71])
def test_a_delta_of_a_wrong_length_is_named_and_adds_nothing_foreign(cut: int) -> None:
    data = b"".join(map(encode_entry, PEOPLE))[:-cut]
    with pytest.raises(StoreFormatError, match=r"damaged\.dat"):
        merged_entries([("whole.dat", data[:72]), ("damaged.dat", data)])
    assert len(entry_times(data)) == 2


@pytest.mark.parametrize("seconds", [0, 1, 86_399, 2**31 - 1, 2**31, 2**32, 250_000_000_000])
def test_clocks_far_off_lose_nothing(tmp_path: Path, seconds: int) -> None:
    """From 1970 to the year 9892: taken, written, listed, merged; then the clock is right again."""

    async def work() -> None:
        service = await OptOut(tmp_path).start()
        service.clock.set(seconds * 1000)
        assert (await service.replicate(1, "a")).status_code == 200
        await service.produce()
        service.clock.set(NOW)
        assert (await service.replicate(2, "b")).status_code == 200
        await service.produce()
        assert service.recorded() == [1, 2]
        await service.context.files.refresh()
        service.clock.set(MIDNIGHT + 5000)
        await service.context.files.refresh()
        assert service.context.partitions is not None
        await service.context.partitions.step()
        assert service.context.partitions.problem is None
        listed = service.context.files.files
        assert listed is not None
        rows = b"".join(service.context.bucket.read(file.path) for file in listed)
        found = {entry.identity_hash[:4] for entry in iter_entries(rows, Environment.TEST) if not entry.special}
        assert found == {(1).to_bytes(4, "big"), (2).to_bytes(4, "big")}

    run(work())


def test_files_that_are_none_of_ours_are_neither_listed_nor_merged(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        good = delta_path("optout/", 0, AT, 1)
        strange = [
            "optout/delta/2024-08-01/readme.txt",
            "optout/delta/2024-08-01/optout-delta-000_yesterday_00000001.dat",
            "optout/delta/2024-08-01/optout-delta-000_2024-08-01T10.07.00Z_00000001.dat.bak",
            "optout/partition/.optout-partition-000_2024-08-01T10.07.00Z_00000001.dat",
            "optout/delta/2024-08-01/my-optout-delta-000_2024-08-01T10.07.00Z_00000001.dat",
        ]
        for path in (good, *strange):
            service.context.bucket.put(path, b"".join(map(encode_entry, PEOPLE)) + (b"" if path == good else b"x"))
        assert await service.context.files.refresh()
        assert [file.path for file in service.context.files.files or ()] == [good]
        service.clock.set(MIDNIGHT + 5000)
        assert service.context.partitions is not None
        assert await service.context.partitions.step() is not None

    run(work())
