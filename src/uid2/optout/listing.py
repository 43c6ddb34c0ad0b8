"""Which files the bucket holds, and which of them operators are told of (opt-out chapter, 2.4, 3.5 and 3.6)."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutFileKind, OptOutFileName

GRACE_INTERVALS: Final = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """`path` is the key in the bucket, `created` the time in its name."""

    path: str
    name: OptOutFileName
    created: EpochSeconds

    @property
    def kind(self) -> OptOutFileKind:
        return self.name.kind


def folders(folder: str, *, synthetic: bool) -> list[str]:
    """Where opt-out files lie."""
    parts = ("delta", "partition", *(("synthetic",) if synthetic else ()))
    return [f"{folder}{part}/" for part in parts]


def listed_files(paths: Iterable[str], on_foreign: Callable[[str], None] = lambda _: None) -> tuple[ListedFile, ...]:
    """The opt-out files among paths, oldest first. Other names are passed over and `on_foreign` is told."""
    found = []
    for path in paths:
        name = OptOutFileName.parse(path)
        base = path.rsplit("/", 1)[-1]
        if name is None or name.created is None or not (base.startswith("optout-") and base.endswith(".dat")):
            on_foreign(path)
            continue
        found.append(ListedFile(path, name, name.created))
    return tuple(sorted(found, key=lambda file: (file.created, file.path)))


def newest_partition(files: Iterable[ListedFile]) -> EpochSeconds | None:
    """The time in the name of the newest partition that is not synthetic."""
    return max(
        (file.created for file in files if file.kind is OptOutFileKind.PARTITION and not file.name.synthetic),
        default=None,
    )


def name_time(files: Iterable[ListedFile], now: EpochSeconds) -> EpochSeconds:
    """The time for the name of a new delta: now, but never before the newest partition.

    A clock that was set back would otherwise name a delta so early that no reader is told of it any more.
    """
    return max(now, newest_partition(files) or now)


def for_operators(files: Iterable[ListedFile], rotate_interval: int) -> tuple[ListedFile, ...]:
    """All partitions, and the deltas that may hold what the newest of them does not."""
    listed = tuple(files)
    newest = newest_partition(listed)
    if newest is None:
        return listed
    oldest = newest - GRACE_INTERVALS * rotate_interval
    return tuple(file for file in listed if file.kind is OptOutFileKind.PARTITION or file.created >= oldest)


def refresh_document(
    files: Iterable[ListedFile], rotate_interval: int, now: EpochSeconds, sign: Callable[[str], str]
) -> dict[str, Any]:
    """The answer of /optout/refresh; `version` is the time of the newest file."""
    chosen = for_operators(files, rotate_interval)
    version = max((file.created for file in chosen), default=now)
    return {
        "version": version,
        "generated": version,
        "optout_logs": [
            {
                "type": file.kind.value,
                "from": file.created,
                "to": file.created + rotate_interval,
                "location": sign(file.path),
            }
            for file in chosen
        ],
    }


def delta_path(folder: str, replica: int, now: EpochSeconds, number: int) -> str:
    """`<folder>delta/YYYY-MM-DD/<name>`; the day is that of the name."""
    name = OptOutFileName(OptOutFileKind.DELTA, replica, now, number).format()
    return f"{folder}delta/{_day(now)}/{name}"


def partition_path(folder: str, replica: int, now: EpochSeconds, number: int) -> str:
    name = OptOutFileName(OptOutFileKind.PARTITION, replica, now, number).format()
    return f"{folder}partition/{name}"


def side_path(kind: str, replica: int, now: EpochSeconds, number: int) -> str:
    """`<kind>/optout-<kind>-RRR_<time>_<number>.json` in the bucket of dropped requests."""
    text = OptOutFileName(OptOutFileKind.DELTA, replica, now, number).format()
    return f"{kind}/{text.replace('optout-delta-', f'optout-{kind}-').replace('.dat', '.json')}"


def _day(now: EpochSeconds) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
