"""Size, load time and lists of the packed salts."""

import time
from collections.abc import Iterator

from bench.bulk import METADATA, NOW, salt_file
from bench.result import Result
from uid2.bulk.engine import best_engine
from uid2.bulk.tables import SaltTable


def measure(quick: bool) -> Iterator[Result]:
    """Bytes per row, seconds to pack and to list."""
    size = 65_536 if quick else 1 << 20
    engine = best_engine()
    data = salt_file(size)
    begin = time.perf_counter()
    table = SaltTable(engine.pack_salt_file(data, METADATA))
    yield Result(f"salts, pack {size:,}", time.perf_counter() - begin, "s", "lower")
    yield Result("salts, bytes per bucket", len(table.buffer) / size, "bytes", "lower", 96)
    begin = time.perf_counter()
    listed = engine.list_buckets(table, NOW - (1 << 40))
    yield Result(f"salts, list {listed.count(b'bucket_id'):,} buckets", time.perf_counter() - begin, "s", "lower", 2)
