"""How the commands lay out names, values and times."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

NAME_WIDTH: Final = 20
FAR_FUTURE_MS: Final = 253_402_300_800_000  # the year 10000, where datetime ends
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def section(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """A heading and one aligned line per row."""
    lines = "".join(f"  {name:<{NAME_WIDTH}} {value}\n" for name, value in rows)
    return f"{title}\n{lines}"


def moment(epoch_ms: int) -> str:
    """`2026-11-24 02:25:06.123 UTC`; numbers that no calendar date has are given as they are."""
    if not -62_135_596_800_000 <= epoch_ms < FAR_FUTURE_MS:
        return f"{epoch_ms} ms"
    return f"{EPOCH + timedelta(milliseconds=epoch_ms):%Y-%m-%d %H:%M:%S}.{epoch_ms % 1000:03d} UTC"


def distance(epoch_ms: int, now_ms: int | None = None) -> str:
    """`in 15 min`, `2 d ago`: the distance from now in its two largest units."""
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    seconds = abs(epoch_ms - now + (500 if epoch_ms >= now else -500)) // 1000
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    text = " ".join(parts) or "0 s"
    return f"in {text}" if epoch_ms >= now else f"{text} ago"
