"""Size, load time and look-ups of the packed tables."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.bulk import salts_of
from bench.result import Result
from uid2.bulk.tables import OptOutIndex, build_optout_index
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import Environment, FirstLevelHash

LOOKUPS = 20_000


def measure(quick: bool) -> Iterator[Result]:
    """Bytes per row, seconds to build, look-ups per second (half of the keys present)."""
    size = 65_536 if quick else 1 << 20
    begin = time.perf_counter()
    table = salts_of(size)
    yield Result(f"salts, pack {size:,}", time.perf_counter() - begin, "s", "lower")
    yield Result("salts, bytes per bucket", len(table.buffer) / size, "bytes", "lower", 96)
    entries = 100_000 if quick else 1_000_000
    draw = random.Random(entries)
    keys = [draw.randbytes(64) for _ in range(entries)]
    with tempfile.TemporaryDirectory() as folder:
        log, index_file = Path(folder) / "optout-delta-000.dat", Path(folder) / "index"
        log.write_bytes(b"".join(key + (1_700_000_000).to_bytes(7, "little") + b"\0" for key in keys))
        begin = time.perf_counter()
        build_optout_index([log], index_file, Environment.TEST)
        yield Result(f"opt-outs, build {entries:,}", time.perf_counter() - begin, "s", "lower")
        index = OptOutIndex(index_file.read_bytes())
    yield Result("opt-outs, bytes per entry", len(index.buffer) / entries, "bytes", "lower", 48)
    present = draw.sample(keys, LOOKUPS // 2)
    hashes = [FirstLevelHash(key[:32]) for key in present] + [
        FirstLevelHash(draw.randbytes(32)) for _ in range(LOOKUPS // 2)
    ]
    draw.shuffle(hashes)
    begin = time.perf_counter()
    found = sum(index.timestamp_of_hash(flh) > 0 for flh in hashes)
    yield Result("opt-outs, look-ups by hash", LOOKUPS / (time.perf_counter() - begin), "look-ups/s")
    ids = [encode_base64(key[32:]) for key in present]
    begin = time.perf_counter()
    found_ids = sum(index.timestamp_of_id(uid) is not None for uid in ids)
    yield Result("opt-outs, look-ups by raw UID", len(ids) / (time.perf_counter() - begin), "look-ups/s")
    if found != len(present) or found_ids != len(ids):
        raise AssertionError("a look-up missed a present entry")
