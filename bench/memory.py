"""Memory of a whole operator and its time to ready, with 1,048,576 salts and 10 million opt-outs; with workers too."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench.bulk import optout_entries, write_log
from bench.load import plan_for, run_together
from bench.operator_process import (
    OperatorUnderLoad,
    fresh_state,
    highest_resident_bytes,
    proportional_bytes,
    serving,
)
from bench.result import Result
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutFileKind, OptOutFileName

MB = 1_000_000
DAY_SECONDS = 86_400
PARTITIONS = 10
WORKERS = 2


def measure(quick: bool) -> Iterator[Result]:
    """Steady after requests of both kinds; the highest of everything before."""
    salts, optouts = (65_536 if quick else 1 << 20), optout_entries(quick)
    whole = (salts, optouts) == (1 << 20, 10_000_000)
    with fresh_state(salts) as state:
        _write_partitions(state.stores / "optout" / "partition", optouts)
        with serving(state) as operator:
            loaded = _used(operator)
            peak = max(operator.peak_bytes, loaded, highest_resident_bytes(operator.pid))
            seconds = operator.seconds_to_ready
        with serving(state, {"worker_processes": str(WORKERS)}) as operator:
            shared = _used(operator)
            shared_peak = max(operator.peak_bytes, shared)
    what = f"{salts:,} salts, {optouts:,} opt-outs"
    yield Result(f"memory, steady, {what}", loaded / MB, "MB", "lower", 850 if whole else None)
    yield Result(f"memory, peak, {what}", peak / MB, "MB", "lower", 1100 if whole else None)
    yield Result(f"memory, steady, {WORKERS} workers, {what}", shared / MB, "MB", "lower")
    yield Result(f"memory, peak, {WORKERS} workers, {what}", shared_peak / MB, "MB", "lower")
    yield Result(f"start, ready with {what}", seconds, "s", "lower")


def _used(operator: OperatorUnderLoad) -> int:
    """Proportional set size of all its processes after requests of both kinds."""
    bulk = plan_for("map", operator.port, operator.credentials, connections=2, seconds=2.0, bodies=12)
    token = plan_for("token", operator.port, operator.credentials, connections=4, seconds=2.0, bodies=1000)
    run_together(bulk, token)
    return proportional_bytes(operator.pid)


def _write_partitions(folder: Path, entries: int) -> None:
    folder.mkdir(parents=True)
    today = int(time.time()) // DAY_SECONDS * DAY_SECONDS
    for number in range(PARTITIONS):
        created = EpochSeconds(today - number * DAY_SECONDS)
        name = OptOutFileName(OptOutFileKind.PARTITION, 0, created, number)
        write_log(folder / name.format(), entries // PARTITIONS)
