"""Metrics in the names of the reference (operator API chapter, 14.2).

Counters end in `_total`; a summary gives `<name>_count`, `_sum` and `_max`. Every series carries the constant label
`application`. Workers hand over their `state()`; `render_states` adds counters and summaries, takes the greatest
maximum, and joins gauges by the rule that each was declared with (greatest value unless it says otherwise).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from threading import Lock
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from uid2.service.clock import Clock, SystemClock

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "<other>"
LABEL_LENGTH: Final = 128
MAX_WINDOW_SECONDS: Final = 60
# A bound on the series of one metric, far above honest use: label values can come from callers.
SERIES_LIMIT: Final = 10_000


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    SUMMARY = "summary"


class GaugeRule(StrEnum):
    """How the gauges of several workers become one."""

    MAX = "max"
    MIN = "min"
    SUM = "sum"


_Series = dict[tuple[str, ...], list[float]]


class _Family:
    """One metric. A series is [value] or, for summaries, [count, sum, slot, maximum now, maximum before]."""

    __slots__ = ("distinct", "help", "kind", "known", "labels", "limits", "name", "rule", "series")

    def __init__(
        self,
        name: str,
        kind: MetricKind,
        help_text: str,
        labels: tuple[str, ...],
        limits: Mapping[str, int],
        rule: GaugeRule,
    ) -> None:
        self.name, self.kind, self.help, self.labels, self.rule = name, kind, help_text, labels, rule
        self.limits = dict(limits)
        self.distinct: dict[str, set[str]] = {label: set() for label in limits}
        self.series: _Series = {}
        # Keys by the labels as they were given; a key once found stays right, because limits are only ever reached.
        self.known: dict[tuple[tuple[str, object], ...], tuple[str, ...]] = {}

    def key(self, labels: Mapping[str, object]) -> tuple[str, ...]:
        given = tuple(labels.items())
        known = self.known.get(given)
        if known is None:
            known = self._new_key(labels)
            # Values as callers wrote them may be long, and a truth value equals a number: neither is kept.
            short = all(type(value) in (str, int) and len(str(value)) <= LABEL_LENGTH for value in labels.values())
            if short and len(self.known) < SERIES_LIMIT:
                self.known[given] = known
        return known

    def _new_key(self, labels: Mapping[str, object]) -> tuple[str, ...]:
        if labels.keys() != set(self.labels):
            raise ValueError(f"metric {self.name} has the labels {self.labels}, not {tuple(labels)}")
        key = tuple(self._bounded(label, str(labels[label])) for label in self.labels)
        if key not in self.series and len(self.series) >= SERIES_LIMIT:
            return (OTHER,) * len(self.labels)
        return key

    def _bounded(self, label: str, value: str) -> str:
        value = value[:LABEL_LENGTH].encode("utf-8", "replace").decode()
        limit = self.limits.get(label)
        if limit is None:
            return value
        seen = self.distinct[label]
        if value not in seen:
            if len(seen) >= limit:
                return OTHER
            seen.add(value)
        return value


class Metrics:
    """The metrics of one process. Safe to call from any thread."""

    def __init__(self, application: str, clock: Clock | None = None) -> None:
        self.application = application
        self._clock: Clock = clock or SystemClock()
        self._families: dict[str, _Family] = {}
        self._sampled: list[tuple[str, Mapping[str, object], Callable[[], float | None]]] = []
        self._lock = Lock()

    def declare(
        self,
        name: str,
        kind: MetricKind,
        help_text: str = "",
        labels: Sequence[str] = (),
        *,
        limits: Mapping[str, int] | None = None,
        rule: GaugeRule = GaugeRule.MAX,
    ) -> None:
        """Makes a metric known. `limits` bounds the number of distinct values of labels that callers can choose."""
        if kind is MetricKind.COUNTER and not name.endswith("_total"):
            raise ValueError(f"counter {name} must end in _total")
        if name in self._families:
            raise ValueError(f"metric {name} is declared twice")
        self._families[name] = _Family(name, kind, help_text or name, tuple(labels), limits or {}, rule)

    def count(self, name: str, amount: float = 1, /, **labels: object) -> None:
        if amount < 0:
            raise ValueError("a counter never falls")
        family = self._family(name, MetricKind.COUNTER)
        with self._lock:
            family.series.setdefault(family.key(labels), [0.0])[0] += amount

    def gauge(self, name: str, value: float, /, **labels: object) -> None:
        family = self._family(name, MetricKind.GAUGE)
        with self._lock:
            family.series[family.key(labels)] = [float(value)]

    def sample(self, name: str, read: Callable[[], float | None], /, **labels: object) -> None:
        """A gauge that is read whenever metrics are asked for; None leaves it as it was."""
        self._family(name, MetricKind.GAUGE)
        self._sampled.append((name, labels, read))

    def observe(self, name: str, value: float, /, **labels: object) -> None:
        """One observation of a summary or timer (seconds)."""
        family = self._family(name, MetricKind.SUMMARY)
        slot = self._clock.monotonic() // MAX_WINDOW_SECONDS
        with self._lock:
            series = family.series.setdefault(family.key(labels), [0.0, 0.0, slot, 0.0, 0.0])
            _turn(series, slot)
            series[0] += 1
            series[1] += value
            series[3] = max(series[3], value)

    def state(self) -> list[dict[str, Any]]:
        """Everything that was counted, as plain JSON values."""
        for name, labels, read in self._sampled:
            value = read()
            if value is not None:
                self.gauge(name, value, **labels)
        slot = self._clock.monotonic() // MAX_WINDOW_SECONDS
        with self._lock:
            return [
                {
                    "name": family.name,
                    "kind": family.kind.value,
                    "help": family.help,
                    "labels": list(family.labels),
                    "rule": family.rule.value,
                    "series": [
                        [list(key), _values(family.kind, values, slot)] for key, values in family.series.items()
                    ],
                }
                for family in self._families.values()
            ]

    def render(self) -> bytes:
        return render_states(self.application, [self.state()])

    def _family(self, name: str, kind: MetricKind) -> _Family:
        family = self._families[name]
        if family.kind is not kind:
            raise ValueError(f"metric {name} is a {family.kind}")
        return family


def _turn(series: list[float], slot: float) -> None:
    """The maximum is that of this and the last window, so that one old peak does not stay for ever."""
    if slot != series[2]:
        series[4] = series[3] if slot == series[2] + 1 else 0.0
        series[2], series[3] = slot, 0.0


def _values(kind: MetricKind, series: list[float], slot: float) -> list[float]:
    if kind is not MetricKind.SUMMARY:
        return list(series)
    _turn(series, slot)
    return [series[0], series[1], max(series[3], series[4])]


MetricState = Sequence[Mapping[str, Any]]
"""What `Metrics.state` gives: plain JSON values."""


def join_states(states: Iterable[MetricState]) -> list[dict[str, Any]]:
    """One state of several."""
    joined: dict[str, dict[str, Any]] = {}
    for state in states:
        for family in state:
            into = joined.setdefault(family["name"], {**family, "series": {}})
            for key, values in family["series"]:
                known = into["series"].get(tuple(key))
                new = list(values) if known is None else _joined(family, known, values)
                into["series"][tuple(key)] = new
    return [
        {**family, "series": [[list(key), values] for key, values in family["series"].items()]}
        for family in joined.values()
    ]


def lasting_part(state: MetricState) -> list[dict[str, Any]]:
    """What remains of a process that has ended: its counters, and count and sum of its summaries."""
    lasting = []
    for family in state:
        if family["kind"] == MetricKind.COUNTER:
            lasting.append(dict(family))
        elif family["kind"] == MetricKind.SUMMARY:
            series = [[key, [count, total, 0.0]] for key, (count, total, _) in family["series"]]
            lasting.append({**family, "series": series})
    return lasting


def render_states(application: str, states: Iterable[MetricState]) -> bytes:
    """The text exposition of the joined states of one or several processes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rendered(application, join_states(states)))
    return generate_latest(registry)


def _joined(family: Mapping[str, Any], left: Sequence[float], right: Sequence[float]) -> list[float]:
    match family["kind"]:
        case MetricKind.COUNTER:
            return [left[0] + right[0]]
        case MetricKind.SUMMARY:
            return [left[0] + right[0], left[1] + right[1], max(left[2], right[2])]
    match family["rule"]:
        case GaugeRule.SUM:
            return [left[0] + right[0]]
        case GaugeRule.MIN:
            return [min(left[0], right[0])]
    return [max(left[0], right[0])]


class _Rendered(Collector):
    def __init__(self, application: str, families: Iterable[Mapping[str, Any]]) -> None:
        self._application = application
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            if not family["series"]:
                continue
            labels = ["application", *family["labels"]]
            name, text = family["name"], family["help"]
            series = [([self._application, *key], values) for key, values in family["series"]]
            match family["kind"]:
                case MetricKind.COUNTER:
                    counter = CounterMetricFamily(name, text, labels=labels)
                    for key, values in series:
                        counter.add_metric(key, values[0])
                    yield counter
                case MetricKind.GAUGE:
                    gauge = GaugeMetricFamily(name, text, labels=labels)
                    for key, values in series:
                        gauge.add_metric(key, values[0])
                    yield gauge
                case _:
                    summary = SummaryMetricFamily(name, text, labels=labels)
                    greatest = GaugeMetricFamily(f"{name}_max", text, labels=labels)
                    for key, values in series:
                        summary.add_metric(key, int(values[0]), values[1])
                        greatest.add_metric(key, values[2])
                    yield summary
                    yield greatest
