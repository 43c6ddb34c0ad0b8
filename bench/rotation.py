"""Salt rotation: ten days of 1,048,576 buckets."""

import os
import time
from array import array
from fractions import Fraction

from bench.result import Result
from uid2.admin.salt_rotation import DAY_MS, SaltRows, next_refresh, rotate
from uid2.protocol.ids import EpochMillis

ROTATIONS = 10
TODAY = EpochMillis(20_000 * DAY_MS)


def measure(quick: bool) -> list[Result]:
    """Seconds for ten rotations, and for writing the last snapshot."""
    size = 65_536 if quick else 1_048_576
    rows = _rows(size)
    begin = time.perf_counter()
    for day in range(1, ROTATIONS + 1):
        rows = rotate(rows, EpochMillis(TODAY + day * DAY_MS), Fraction(1, 300), os.urandom).rows
    rotated = time.perf_counter() - begin
    begin = time.perf_counter()
    rows.lines()
    written = time.perf_counter() - begin
    return [
        Result(f"salt rotation: {ROTATIONS} days of {size} buckets", rotated, "s", "lower"),
        Result(f"salt rotation: write a snapshot of {size} buckets", written, "s", "lower"),
    ]


def _rows(size: int) -> SaltRows:
    ages = [n * 7919 % 360 for n in range(size)]
    return SaltRows(
        array("q", range(size)),
        array("q", [TODAY - age * DAY_MS + 1 for age in ages]),
        array("q", [next_refresh(TODAY - age * DAY_MS, age) for age in ages]),
        [f"{n:044}" for n in range(size)],
        [None] * size,
        [None] * size,
        [None] * size,
    )
