"""The circuit breaker: too many opt-outs in the look-back halt production (opt-out chapter, 6.5).

sum = in existing deltas + in this window + held by other readers;   trips when sum >= multiplier * baseline
"""

import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from uid2.optout.bucket import Bucket
from uid2.optout.listing import ListedFile
from uid2.optout.messages import QueuedMessage
from uid2.optout.time_ranges import TimeRange, parse_range
from uid2.optout.traffic_filter import read_file, read_object
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import ENTRY_LENGTH, NULL_HASH, ONES_HASH, OptOutFileKind

KEY: Final = "traffic_calc_config_path"
WINDOW_SECONDS: Final = 300
WARN_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class TrafficRules:
    evaluation_window_seconds: int = 86_400
    baseline: int = 1_000_000
    multiplier: int = 10
    allowed: tuple[TimeRange, ...] = ()

    def counts(self, timestamp: int) -> bool:
        return not any(allowed.holds(timestamp) for allowed in self.allowed)

    def counted(self, times: "array[int]", start: int) -> int:
        """How many of these sorted times, from `start` on, are in no allowed range."""
        # The ranges do not overlap.
        inside = sum(
            max(0, bisect_right(times, part.end) - bisect_left(times, max(part.start, start))) for part in self.allowed
        )
        return len(times) - bisect_left(times, start) - inside

    def look_back_start(self, anchor: int) -> int:
        """The window before `anchor`, longer by the allow-listed seconds inside it, until that adds nothing more."""
        start = anchor - self.evaluation_window_seconds
        while True:
            inside = sum(max(0, min(part.end, anchor) - max(part.start, start)) for part in self.allowed)
            wanted = anchor - self.evaluation_window_seconds - inside
            if wanted == start:
                return start
            start = wanted


def parse_traffic_rules(data: bytes) -> TrafficRules:
    """All four keys are required; ConfigurationError names the one that is wrong."""
    document = read_object(data, KEY)
    window, baseline, multiplier = (
        _number(document, f"traffic_calc_{name}")
        for name in ("evaluation_window_seconds", "baseline_traffic", "threshold_multiplier")
    )
    ranges = document.get("traffic_calc_allowlist_ranges")
    if not isinstance(ranges, list):
        raise ConfigurationError(
            f"{KEY}: traffic_calc_allowlist_ranges must be an array", next_step="add it; it may be empty"
        )
    allowed = sorted(parse_range(part, f"{KEY}: traffic_calc_allowlist_ranges[{n}]") for n, part in enumerate(ranges))
    for before, after in itertools.pairwise(allowed):
        if after.start <= before.end:
            raise ConfigurationError(
                f"{KEY}: two of traffic_calc_allowlist_ranges overlap or touch", next_step="join them into one"
            )
    return TrafficRules(window, baseline, multiplier, tuple(allowed))


def load_traffic_rules(path: Path | None) -> TrafficRules:
    """Without a file: a day, 1,000,000 opt-outs, ten times that."""
    return TrafficRules() if path is None else parse_traffic_rules(read_file(path, KEY))


@dataclass(frozen=True, slots=True)
class TrafficFigures:
    """Numbers of opt-outs: those of the look-back, and the `limit` at which production halts."""

    in_deltas: int
    in_window: int
    held_elsewhere: int
    limit: int

    @property
    def total(self) -> int:
        return self.in_deltas + self.in_window + self.held_elsewhere

    @property
    def trips(self) -> bool:
        return self.total >= self.limit

    @property
    def near(self) -> bool:
        """Whether people should be warned."""
        return self.total >= WARN_SHARE * self.limit

    def described(self) -> str:
        return f"{self.total} opt-outs in the look-back, the limit is {self.limit}"


@final
class TrafficCalculator:
    """Keeps the times of the deltas it has read. Calls block; used by one job at a time."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._times: dict[str, array[int]] = {}

    def figures(
        self,
        rules: TrafficRules,
        files: Iterable[ListedFile],
        kept: Sequence[QueuedMessage],
        held_elsewhere: int,
        now: EpochSeconds,
    ) -> TrafficFigures:
        """How near production is to a halt. StoreUnavailableError: a delta cannot be read. ConfigurationError."""
        if rules.baseline <= 0 or rules.multiplier <= 0:
            raise ConfigurationError(
                f"{KEY}: baseline and multiplier must be above 0", next_step="correct traffic_calc_baseline_traffic"
            )
        return TrafficFigures(
            in_deltas=self._in_deltas(rules, files, now),
            in_window=self._in_window(rules, kept),
            held_elsewhere=max(0, held_elsewhere),
            limit=rules.multiplier * rules.baseline,
        )

    def _in_deltas(self, rules: TrafficRules, files: Iterable[ListedFile], now: EpochSeconds) -> int:
        deltas = sorted(
            (file for file in files if file.kind is OptOutFileKind.DELTA),
            key=lambda file: (file.created, file.path),
            reverse=True,
        )
        if not deltas:
            self._times.clear()
            return 0
        newest = self._times_of(deltas[0].path)
        anchor = newest[-1] if newest else now
        start = rules.look_back_start(anchor)
        # An entry is older than its file; an hour is allowed for clocks that differ.
        wanted = [file for file in deltas if file.created + 3600 >= start]
        total = sum(rules.counted(self._times_of(file.path), start) for file in wanted)
        names = {file.path for file in wanted}
        for path in [path for path in self._times if path not in names]:
            del self._times[path]
        return total

    def _in_window(self, rules: TrafficRules, kept: Sequence[QueuedMessage]) -> int:
        if not kept:
            return 0
        latest = min(message.timestamp for message in kept) + WINDOW_SECONDS
        return sum(1 for message in kept if message.timestamp <= latest and rules.counts(message.timestamp))

    def _times_of(self, path: str) -> "array[int]":
        known = self._times.get(path)
        if known is None:
            known = self._times[path] = entry_times(self._bucket.read(path))
        return known


def entry_times(data: bytes) -> "array[int]":
    """The times of the entries of a file that stand for somebody, sorted."""
    times = (
        int.from_bytes(data[offset + 64 : offset + 71], "little")
        for offset in range(0, len(data) - len(data) % ENTRY_LENGTH, ENTRY_LENGTH)
        if data[offset : offset + 32] not in (NULL_HASH, ONES_HASH)
    )
    return array("Q", sorted(times))


def _number(document: dict[str, Any], key: str) -> int:
    value = document.get(key)
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{KEY}: {key} must be a whole number, 0 or more", next_step=f"correct {key}")
    return value
