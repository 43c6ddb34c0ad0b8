"""Size, load time, memory and look-ups of the packed tables."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.bulk import METADATA, NOW, optout_entries, salt_file, write_log
from bench.result import Result
from uid2.bulk.engine import best_engine
from uid2.bulk.tables import OptOutIndex, SaltTable
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import FirstLevelHash

LOOKUPS = 20_000
# Prints seconds, bytes of the index, and how far resident memory rose above what it was before.
BUILD = """
import sys, time
from pathlib import Path
from uid2.bulk.engine import best_engine
from uid2.protocol.ids import Environment

def memory(field):
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) << 10

engine = best_engine()
before, begin = memory("VmRSS"), time.perf_counter()
engine.build_optout_index([Path(sys.argv[1])], Path(sys.argv[2]), Environment.TEST)
seconds = time.perf_counter() - begin
print(seconds, Path(sys.argv[2]).stat().st_size, memory("VmHWM") - before)
"""


def measure(quick: bool) -> Iterator[Result]:
    """Bytes per row, seconds to build, memory, look-ups per second (half of the keys present)."""
    yield from _salts(65_536 if quick else 1 << 20)
    yield from _optouts(optout_entries(quick))


def _salts(size: int) -> Iterator[Result]:
    engine = best_engine()
    data = salt_file(size)
    begin = time.perf_counter()
    table = SaltTable(engine.pack_salt_file(data, METADATA))
    yield Result(f"salts, pack {size:,}", time.perf_counter() - begin, "s", "lower")
    yield Result("salts, bytes per bucket", len(table.buffer) / size, "bytes", "lower", 96)
    begin = time.perf_counter()
    listed = engine.list_buckets(table, NOW - (1 << 40))
    yield Result(f"salts, list {listed.count(b'bucket_id'):,} buckets", time.perf_counter() - begin, "s", "lower", 2)


def _optouts(entries: int) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        log, index_file = Path(folder) / "log.dat", Path(folder) / "index"
        write_log(log, entries)
        printed = subprocess.run(
            [sys.executable, "-c", BUILD, log, index_file], check=True, capture_output=True, text=True
        ).stdout
        seconds, steady, peak = map(float, printed.split())
        yield Result(f"opt-outs, build {entries:,}", seconds, "s", "lower")
        yield Result("opt-outs, bytes per entry", steady / entries, "bytes", "lower", 48)
        yield Result("opt-outs, peak / steady memory", peak / steady, "ratio", "lower", 1.3)
        index = best_engine().open_optouts(index_file.read_bytes())
        yield from _lookups(index, _present(log, entries))


def _present(log: Path, entries: int) -> list[bytes]:
    draw = random.Random(entries)
    with log.open("rb") as file:
        return [os.pread(file.fileno(), 64, draw.randrange(entries) * 72) for _ in range(LOOKUPS // 2)]


def _lookups(index: OptOutIndex, present: list[bytes]) -> Iterator[Result]:
    draw = random.Random(len(present))
    hashes = [FirstLevelHash(key[:32]) for key in present]
    hashes += [FirstLevelHash(draw.randbytes(32)) for _ in present]
    ids = [encode_base64(key[32:]) for key in present] + [encode_base64(draw.randbytes(32)) for _ in present]
    draw.shuffle(hashes)
    draw.shuffle(ids)
    runs: dict[str, Callable[[], int]] = {
        "by hash, single": lambda: sum(index.timestamp_of_hash(flh) > 0 for flh in hashes),
        "by hash, batched": lambda: sum(seconds > 0 for seconds in index.timestamps_of_hashes(hashes)),
        "by raw UID, single": lambda: sum(index.timestamp_of_id(uid) is not None for uid in ids),
        "by raw UID, batched": lambda: sum(seconds is not None for seconds in index.timestamps_of_ids(ids)),
    }
    for name, run in runs.items():
        begin = time.perf_counter()
        found = run()
        yield Result(f"opt-outs, look-ups {name}", LOOKUPS / (time.perf_counter() - begin), "look-ups/s")
        if found != len(present):
            raise AssertionError("a look-up missed a present entry or found an absent one")
