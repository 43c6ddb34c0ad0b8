"""The opt-out index at 1 and 10 million: memory, loading, look-ups; 100 million extrapolated, or measured on request.

Each size is loaded as an operator loads it, from partition and delta files, in a process of its own. Look-ups are timed
in time of the thread, so that other work on the machine counts little. Beside it, at 1 million, the plain way: two
dicts from bytes to seconds, by hash and by raw UID.

    python -m bench.optouts                        these measurements alone
    python -m bench.optouts --hundred-million      100 million for real: 12 GB of disk, 5 GB of memory, some minutes
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pybase64 import b64encode

from bench.bulk import METADATA, OPTIONS, salt_file, write_log
from bench.result import Result
from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.mapping import Shape
from uid2.bulk.tables import OptOutView, SaltTable
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import Environment, EpochSeconds, FirstLevelHash
from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutFileKind, OptOutFileName
from uid2.stores.optout_files import OptOutFiles
from uid2.stores.optout_runs import OptOutRuns

MILLION: Final = 1_000_000
HUNDRED: Final = 100 * MILLION
PARTITIONS: Final = 10
NEWEST: Final = 1_800_000_000
DAY: Final = 86_400
DELTA: Final = 2_000
LOOKUPS: Final = 50_000
STATUS_BATCH: Final = 5_000
MAP_BATCH: Final = 10_000
ROUNDS: Final = 5
PAGE: Final = 4096
TARGETS: Final = {"bytes per entry": 48.0, "peak / steady memory, loading": 1.3, "peak / steady memory, a delta": 1.3}

Figures = dict[str, float]


def measure(quick: bool) -> Iterator[Result]:
    """Two sizes, a factor of ten apart, their slope, and what it means for 100 million."""
    if best_engine().name == "reference":
        small, large = (5_000, 50_000) if quick else (50_000, 500_000)
    else:
        small, large = (50_000, 500_000) if quick else (MILLION, 10 * MILLION)
    by_size = {size: _in_own_process(size) for size in (small, large)}
    for size, figures in by_size.items():
        yield from _results(size, figures)
    for name, value in by_size[small].items():
        if not name.startswith("dict"):
            yield Result(
                f"opt-outs, {name}, {large:,} / {small:,}", by_size[large][name] / value, "ratio", _better(name)
            )
    if large == 10 * MILLION:
        yield from _extrapolated(by_size[small], by_size[large])


def _results(size: int, figures: Figures) -> Iterator[Result]:
    # In small tables the memory of the program itself shows.
    targets = TARGETS if size >= MILLION // 2 else {}
    for name, value in figures.items():
        if name.startswith("dict"):
            continue
        yield Result(f"opt-outs, {name}, {size:,}", value, _unit(name), _better(name), targets.get(name))
        if f"dict, {name}" in figures:
            ratio = value / figures[f"dict, {name}"]
            yield Result(f"opt-outs, {name}, {size:,}, index / dict", ratio, "ratio", _better(name))


def _extrapolated(one: Figures, ten: Figures) -> Iterator[Result]:
    """Times and rates go on by the factor between 1 and 10 million, the bytes of an entry by their difference."""
    for name, value in ten.items():
        further = value + (value - one[name]) if name == "bytes per entry" else value * value / one[name]
        yield Result(
            f"opt-outs, {name}, {HUNDRED:,}, extrapolated", further, _unit(name), _better(name), TARGETS.get(name)
        )


def _unit(name: str) -> str:
    if "/ steady" in name:
        return "ratio"
    if "bytes" in name:
        return "bytes"
    return "s" if name.startswith("seconds") else "look-ups/s"


def _better(name: str) -> str:
    return "higher" if _unit(name) == "look-ups/s" else "lower"


def _in_own_process(size: int) -> Figures:
    with TemporaryDirectory(prefix="uid2-bench-") as folder:
        write_files(Path(folder), size)
        command = [sys.executable, "-m", "bench.optouts", "--load", folder, str(size)]
        figures: Figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


def write_files(folder: Path, size: int) -> None:
    """Random entries in partitions of ten days, and last a delta with the half of a map request's people."""
    for number in range(PARTITIONS):
        created = EpochSeconds(NEWEST - number * DAY)
        part = size // PARTITIONS - (MAP_BATCH // 2 if not number and size > PARTITIONS * MAP_BATCH else 0)
        write_log(_place(folder, OptOutFileKind.PARTITION, created, number), part)
    tail = NEWEST.to_bytes(7, "little") + b"\0"
    opted_out = b"".join(first_level_hash(email) + os.urandom(32) + tail for email in _emails()[::2])
    _place(folder, OptOutFileKind.DELTA, EpochSeconds(NEWEST), 0).write_bytes(opted_out)


def _place(folder: Path, kind: OptOutFileKind, created: EpochSeconds, number: int) -> Path:
    path = folder / "consumer" / kind / OptOutFileName(kind, 0, created, number).format()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _emails() -> list[str]:
    return [f"reader{number}@example.com" for number in range(MAP_BATCH)]


def first_level_hash(email: str) -> bytes:
    """As the operator computes it with the salts of this benchmark."""
    return sha256(b64encode(sha256(email.encode()).digest()) + METADATA.first_level.encode()).digest()


# In the process that loads


def load(folder: Path, size: int) -> Figures:
    """All figures of one size."""
    engine, figures = best_engine(), Figures()
    files, runs = OptOutFiles(folder), OptOutRuns(folder / "index", Environment.TEST, engine)
    resident, proportional = _memory("VmRSS"), _proportional()
    begin, used = time.perf_counter(), time.process_time()
    runs.update(files.find())
    figures["seconds to load"] = time.perf_counter() - begin
    figures["seconds to load, of the processor"] = time.process_time() - used
    peak = _memory("VmHWM") - resident
    view = _view(runs)
    entries = view.indexed
    steady = _proportional() - proportional
    figures["bytes per entry"] = steady / entries
    figures["peak / steady memory, loading"] = peak / steady
    figures |= _refresh(folder, files, runs)
    view = _view(runs)
    keys = _sample(folder)
    figures |= _lookups(view, keys)
    figures |= _mapped(engine, view)
    if size <= MILLION:
        figures |= _dicts(folder, entries, keys)
    return figures


def _view(runs: OptOutRuns) -> OptOutView:
    """Every page of the indices is in memory."""
    first, *others = runs.indices
    for index in runs.indices:
        bytes(index.buffer[::PAGE])
    return OptOutView(first, None, tuple(others))


def _refresh(folder: Path, files: OptOutFiles, runs: OptOutRuns) -> Figures:
    """A small delta arrives."""
    write_log(_place(folder, OptOutFileKind.DELTA, EpochSeconds(NEWEST + 300), 1), DELTA)
    steady = _memory("VmRSS")
    # From here the highest resident set counts anew.
    Path("/proc/self/clear_refs").write_text("5")
    begin = time.perf_counter()
    runs.update(files.find())
    seconds = time.perf_counter() - begin
    return {
        f"seconds to index a delta of {DELTA:,}": seconds,
        "peak / steady memory, a delta": _memory("VmHWM") / steady,
    }


def _sample(folder: Path) -> list[bytes]:
    """64 bytes each of hash and raw UID, from everywhere in the partitions."""
    draw, keys = random.Random(7), []
    for file in sorted((folder / "consumer" / OptOutFileKind.PARTITION).iterdir()):
        entries = file.stat().st_size // ENTRY_LENGTH
        with file.open("rb") as log:
            for _ in range(LOOKUPS // PARTITIONS):
                keys.append(os.pread(log.fileno(), 64, draw.randrange(entries) * ENTRY_LENGTH))
    draw.shuffle(keys)
    return keys


def _keys(present: Sequence[bytes]) -> dict[str, tuple[list[FirstLevelHash], list[str]]]:
    draw = random.Random(11)
    absent = [draw.randbytes(64) for _ in present]
    return {
        name: ([FirstLevelHash(key[:32]) for key in keys], [encode_base64(key[32:]) for key in keys])
        for name, keys in (("hits", present), ("misses", absent))
    }


def _lookups(view: OptOutView, present: Sequence[bytes]) -> Figures:
    """Single calls as a token request makes them, and batches."""
    rates = Figures()
    for name, (hashes, uids) in _keys(present).items():
        batches = [uids[at : at + STATUS_BATCH] for at in range(0, len(uids), STATUS_BATCH)]
        runs: dict[str, Callable[[], int]] = {
            "by hash, single": partial(_found, view.timestamp_of_hash, hashes, 0),
            "by raw UID, single": partial(_found, view.timestamp_of_id, uids, None),
            f"by raw UID, batches of {STATUS_BATCH:,}": partial(_found_together, view, batches),
        }
        for kind, run in runs.items():
            rates[f"look-ups {kind}, {name}"] = len(present) / _seconds(run, len(present) if name == "hits" else 0)
    return rates


def _mapped(engine: Engine, view: OptOutView) -> Figures:
    """Whole map requests, half of whose people are opted out: hashing, look-up, salting, answer."""
    table = SaltTable(engine.pack_salt_file(salt_file(65_536), METADATA))
    body = json.dumps({"email": _emails()}).encode()

    def run() -> int:
        return engine.map_request(body, Shape.V3, table, view, OPTIONS).body.count(b'"optout"')

    return {f"look-ups by hash, map of {MAP_BATCH:,}": MAP_BATCH / _seconds(run, MAP_BATCH // 2)}


def _found(look_up: Callable[[Any], object], keys: Sequence[object], nothing: object) -> int:
    return sum(look_up(key) != nothing for key in keys)


def _found_together(view: OptOutView, batches: Sequence[Sequence[str]]) -> int:
    return sum(seconds is not None for batch in batches for seconds in view.timestamps_of_ids(batch))


def _seconds(run: Callable[[], int], expected: int) -> float:
    """Of the thread, the median of some rounds; the first one warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        begin = time.thread_time()
        found = run()
        times.append(time.thread_time() - begin)
        if found != expected:
            raise AssertionError(f"{found} instead of {expected} found")
    return statistics.median(times[1:])


def _dicts(folder: Path, entries: int, present: Sequence[bytes]) -> Figures:
    """The yardstick: a dict by hash and a dict by raw UID."""
    before, begin = _proportional(), time.perf_counter()
    by_hash: dict[bytes, int] = {}
    by_id: dict[bytes, int] = {}
    for file in sorted((folder / "consumer").rglob("*.dat")):
        data = file.read_bytes()
        for at in range(0, len(data), ENTRY_LENGTH):
            flh, uid = data[at : at + 32], data[at + 32 : at + 64]
            seconds = int.from_bytes(data[at + 64 : at + 71], "little")
            by_hash[flh] = max(seconds, by_hash.get(flh, 0))
            by_id[uid] = min(seconds, by_id.get(uid, seconds))
        del data
    figures = {
        "dict, seconds to load": time.perf_counter() - begin,
        "dict, bytes per entry": (_proportional() - before) / entries,
    }
    for name, (hashes, uids) in _keys(present).items():
        runs: dict[str, Callable[[], int]] = {
            "by hash, single": partial(_found, by_hash.get, hashes, None),
            "by raw UID, single": partial(_found, lambda uid: by_id.get(decode_base64(uid)), uids, None),
        }
        for kind, run in runs.items():
            rate = len(present) / _seconds(run, len(present) if name == "hits" else 0)
            figures[f"dict, look-ups {kind}, {name}"] = rate
    return figures


def _memory(field: str) -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) << 10


def _proportional() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.optouts")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hundred-million", action="store_true")
    parser.add_argument("--load", nargs=2, metavar=("FOLDER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load is not None:
        print(json.dumps(load(Path(options.load[0]), int(options.load[1]))))
        return
    results = _results(HUNDRED, _in_own_process(HUNDRED)) if options.hundred_million else measure(options.quick)
    for result in results:
        print(
            f"{result.name:<76} {result.value:>14,.4g} {result.unit:<12}{'' if result.met is not False else 'NOT MET'}"
        )


if __name__ == "__main__":
    main()
