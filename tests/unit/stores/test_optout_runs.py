"""Indices of opt-out files: what is new costs little, nothing is lost, no large index is written twice."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.bulk.engine import Engine, engine_named
from uid2.protocol.errors import StoreFormatError, StoreUnavailableError
from uid2.protocol.ids import Environment, EpochSeconds, FirstLevelHash
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind, OptOutFileName, encode_entry
from uid2.stores import optout_runs
from uid2.stores.optout_files import OptOutFile
from uid2.stores.optout_runs import SHARE, SMALL, OptOutRuns, merged_with

PEAK = """
import sys
from pathlib import Path
from uid2.bulk.engine import engine_named
from uid2.protocol.ids import Environment
from uid2.stores.optout_files import OptOutFiles
from uid2.stores.optout_runs import OptOutRuns

def memory(field):
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) << 10

folder = Path(sys.argv[1])
runs, files = OptOutRuns(folder / "index", Environment.TEST, engine_named("native")), OptOutFiles(folder)
before = memory("VmRSS")
runs.update(files.find())
for index in runs.indices:
    assert sum(index.buffer[::512]) > 0
print(runs.indices[0].size, (folder / "index").stat().st_size, memory("VmHWM") - before)
"""


def entries(first: int, count: int) -> list[bytes]:
    """Entries with hashes that lie evenly spread."""
    odd = 0x9E3779B97F4A7C15
    return [
        encode_entry(
            OptOutEntry(
                (number * odd % 2**64).to_bytes(8, "big") * 4, number.to_bytes(32, "big"), EpochSeconds(100 + number)
            )
        )
        for number in range(first, first + count)
    ]


def file_of(folder: Path, number: int, data: bytes, kind: OptOutFileKind = OptOutFileKind.DELTA) -> OptOutFile:
    name = OptOutFileName(kind, 0, EpochSeconds(1_722_500_000 + number), number)
    path = folder / "consumer" / kind / name.format()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return OptOutFile(name, path, len(data))


def hash_of(entry: bytes) -> FirstLevelHash:
    return FirstLevelHash(entry[:32])


@pytest.fixture(params=["native", "reference"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "native":
        pytest.importorskip("uid2_native")
    return engine_named(request.param)


def test_a_small_file_leaves_the_large_index_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optout_runs, "SMALL", 8)
    runs = OptOutRuns(tmp_path / "index", Environment.TEST, engine)
    log = entries(1, 1000)
    files = [file_of(tmp_path, 0, b"".join(log), OptOutFileKind.PARTITION)]
    assert runs.update(files)
    assert not runs.update(files)
    large = runs.indices[0]
    written = (tmp_path / "index").stat()
    for number in range(1, 40):
        added = entries(1000 + 5 * number, 5)
        log += added
        files.append(file_of(tmp_path, number, b"".join(added)))
        assert runs.update(files)
        assert runs.indices[0] is large
        assert len(runs.runs) <= 8
        assert all(any(index.timestamp_of_hash(hash_of(entry)) for index in runs.indices) for entry in log[-200:])
    assert sum(index.size for index in runs.indices) == len(log)
    assert ((tmp_path / "index").stat().st_ino, (tmp_path / "index").stat().st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )
    # Those in force and those that were replaced last.
    assert len(list(tmp_path.glob("index*"))) <= len(runs.runs) + 3
    assert all(path.exists() for path in runs.paths)


def test_what_is_indexed_stays_although_its_file_goes(engine: Engine, tmp_path: Path) -> None:
    runs = OptOutRuns(tmp_path / "index", Environment.TEST, engine)
    old, new = entries(1, 10), entries(11, 10)
    first = file_of(tmp_path, 1, b"".join(old))
    runs.update([first])
    first.path.unlink()
    assert not runs.update([])
    assert runs.update([file_of(tmp_path, 2, b"".join(new))])
    (index,) = runs.indices
    assert [index.timestamp_of_hash(hash_of(entry)) for entry in old + new] == list(range(101, 121))
    assert [name.number for name in runs.indexed] == [2]


def test_a_file_that_grew_is_indexed_again(engine: Engine, tmp_path: Path) -> None:
    runs = OptOutRuns(tmp_path / "index", Environment.TEST, engine)
    log = entries(1, 10)
    runs.update([file_of(tmp_path, 1, b"".join(log[:4]))])
    assert runs.update([file_of(tmp_path, 1, b"".join(log))])
    assert sum(index.size for index in runs.indices) == len(log)


def test_an_error_leaves_everything_as_it_was(engine: Engine, tmp_path: Path) -> None:
    runs = OptOutRuns(tmp_path / "index", Environment.TEST, engine)
    first = file_of(tmp_path, 1, b"".join(entries(1, 10)))
    runs.update([first])
    before = runs.runs, (tmp_path / "index").read_bytes()
    broken = file_of(tmp_path, 2, bytes(73))
    absent = OptOutFile(first.name, tmp_path / "absent", 72)
    for file, error in ((broken, StoreFormatError), (absent, StoreUnavailableError)):
        with pytest.raises(error):
            runs.update([first, file])
        assert (runs.runs, (tmp_path / "index").read_bytes()) == before
    assert runs.update([first, file_of(tmp_path, 3, b"".join(entries(11, 1)))])


def test_a_new_process_replaces_what_the_last_one_left(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"old")
    (tmp_path / "index.7").write_bytes(b"old")
    (tmp_path / ".index.3.partial").write_bytes(b"old")
    (tmp_path / "index.log").write_bytes(b"not ours")
    runs = OptOutRuns(tmp_path / "index", Environment.TEST)
    assert runs.update([])
    assert runs.indices[0].size == 0
    assert {path.name for path in tmp_path.iterdir()} == {"index", "index.log"}


def test_a_replaced_index_can_be_opened_until_the_next_is_written(tmp_path: Path) -> None:
    runs = OptOutRuns(tmp_path / "index", Environment.TEST)
    runs.update([file_of(tmp_path, 1, b"".join(entries(1, 10)))])
    told = runs.paths
    runs.update([file_of(tmp_path, 2, b"".join(entries(11, 10)))])
    assert runs.paths != told
    assert all(path.exists() for path in told)
    runs.update([file_of(tmp_path, 3, b"".join(entries(21, 10)))])
    assert not any(path.exists() for path in told)


@given(st.integers(0, 10**8), st.lists(st.integers(0, 10**6) | st.integers(0, 100), max_size=60))
def test_indices_stay_few_and_no_merge_needs_much_room(base: int, arriving: list[int]) -> None:
    sizes = [base]
    for new in arriving:
        total = sum(sizes) + new
        count = merged_with(sizes, new)
        merged = sum(sizes[len(sizes) - count :])
        assert merged <= max(SMALL, total // SHARE)
        sizes = [*sizes[: len(sizes) - count], merged + new]
        assert sum(sizes) == total
    assert len(sizes) <= 24


def test_small_files_are_written_a_few_times_each() -> None:
    sizes, written, most = [10_000_000], 0, 0
    for _ in range(3000):
        count = merged_with(sizes, 2000)
        group = sum(sizes[len(sizes) - count :]) + 2000
        written += group
        sizes = [*sizes[: len(sizes) - count], group]
        most = max(most, len(sizes))
    assert sizes[0] == 10_000_000
    assert sum(sizes) == 16_000_000
    assert most <= 12
    # Against 39 billion rows when everything is written for each file.
    assert written < 40 * 6_000_000


def test_loading_needs_no_second_copy(tmp_path: Path) -> None:
    pytest.importorskip("uid2_native")
    for number in range(4):
        log = b"".join(entries(1 + number * 150_000, 150_000))
        file_of(tmp_path, number, log, OptOutFileKind.PARTITION)
    printed = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], check=True, capture_output=True, text=True
    ).stdout.split()
    rows, size, peak = map(int, printed)
    assert rows == 600_000
    assert size <= 48 * rows
    assert size <= peak <= 1.3 * size
