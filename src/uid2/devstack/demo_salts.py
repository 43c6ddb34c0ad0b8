"""Salt snapshots of a development stack.

One row per bucket (tokens chapter, 5.2); ages spread over a year, so that some rows are younger than 90 days and
keep their previous salt, and the refresh times follow the administrative rule: the day of the last update plus the
next multiple of 30 days.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pybase64 import b64encode

from uid2.protocol.ids import EpochMillis

DAY: Final = 86_400_000
FIRST_BUCKET: Final = 1_000_000
OLDEST_DAYS: Final = 360
PREVIOUS_DAYS: Final = 90
STEP_DAYS: Final = 30
BLOCK: Final = 16_384


def write_salts(
    folder: Path,
    count: int,
    *,
    draw: Callable[[int], bytes],
    now: EpochMillis,
    expires: EpochMillis,
) -> None:
    """Write `metadata.json` and one snapshot of `count` rows into `folder`, which is `salts` of a bucket."""
    folder.mkdir(parents=True, exist_ok=True)
    today = now // DAY * DAY
    name = f"salts.txt.{today}"
    with (folder / name).open("wb") as out:
        for first in range(0, count, BLOCK):
            out.write(_rows(first, min(BLOCK, count - first), today, draw))
    metadata = {
        "version": int(now),
        "generated": now // 1000,
        "first_level": b64encode(draw(32)).decode(),
        "id_prefix": "d",
        "id_secret": b64encode(draw(32)).decode(),
        "salts": [{"effective": today, "expires": int(expires), "location": f"salts/{name}", "size": count}],
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")


def _rows(first: int, count: int, today: int, draw: Callable[[int], bytes]) -> bytes:
    salts, previous, ages = draw(32 * count), draw(32 * count), draw(2 * count)
    rows = []
    for i in range(count):
        age = int.from_bytes(ages[2 * i : 2 * i + 2], "big") % OLDEST_DAYS
        updated = today - age * DAY
        refresh = updated + STEP_DAYS * DAY * (age // STEP_DAYS + 1)
        old = b64encode(previous[32 * i : 32 * i + 32]).decode() if age < PREVIOUS_DAYS else ""
        salt = b64encode(salts[32 * i : 32 * i + 32]).decode()
        # the writer's rule: a last update that is a multiple of 1000 ms is written one later
        rows.append(f"{FIRST_BUCKET + first + i},{updated + 1},{salt},{refresh},{old},,,,,,\n")
    return "".join(rows).encode()
