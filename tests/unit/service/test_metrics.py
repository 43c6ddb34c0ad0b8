import pytest

from uid2.service.clock import FixedClock
from uid2.service.metrics import LABEL_LENGTH, OTHER, GaugeRule, MetricKind, Metrics, render_states


def made(clock: FixedClock | None = None) -> Metrics:
    metrics = Metrics("uid2-operator", clock or FixedClock())
    metrics.declare("uid2_requests_total", MetricKind.COUNTER, "Requests", ["path"], limits={"path": 2})
    metrics.declare("uid2_age", MetricKind.GAUGE)
    metrics.declare("uid2_oldest", MetricKind.GAUGE, rule=GaugeRule.MIN)
    metrics.declare("uid2_connections", MetricKind.GAUGE, rule=GaugeRule.SUM)
    metrics.declare("uid2_load_seconds", MetricKind.SUMMARY, "Load time", ["store"])
    return metrics


def samples(data: bytes) -> dict[str, float]:
    lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_names_and_the_constant_label() -> None:
    metrics = made()
    metrics.count("uid2_requests_total", path="/a")
    metrics.count("uid2_requests_total", 2, path="/a")
    metrics.gauge("uid2_age", 7)
    metrics.observe("uid2_load_seconds", 2.0, store="salt")
    metrics.observe("uid2_load_seconds", 0.5, store="salt")
    assert samples(metrics.render()) == {
        'uid2_requests_total{application="uid2-operator",path="/a"}': 3,
        'uid2_age{application="uid2-operator"}': 7,
        'uid2_load_seconds_count{application="uid2-operator",store="salt"}': 2,
        'uid2_load_seconds_sum{application="uid2-operator",store="salt"}': 2.5,
        'uid2_load_seconds_max{application="uid2-operator",store="salt"}': 2.0,
    }
    assert b"# TYPE uid2_requests_total counter" in metrics.render()


def test_an_old_peak_is_forgotten_after_the_next_window() -> None:
    clock = FixedClock()
    metrics = made(clock)
    greatest = 'uid2_load_seconds_max{application="uid2-operator",store="salt"}'
    metrics.observe("uid2_load_seconds", 9, store="salt")
    clock.advance(60_000)
    metrics.observe("uid2_load_seconds", 1, store="salt")
    assert samples(metrics.render())[greatest] == 9
    clock.advance(60_000)
    assert samples(metrics.render())[greatest] == 1
    clock.advance(120_000)
    assert samples(metrics.render())[greatest] == 0


def test_values_that_callers_choose_are_bounded_in_number_and_length() -> None:
    metrics = made()
    for path in ("/a", "/b", "/c", "/d", "/a"):
        metrics.count("uid2_requests_total", path=path)
    found = samples(metrics.render())
    assert found[f'uid2_requests_total{{application="uid2-operator",path="{OTHER}"}}'] == 2
    assert len(found) == 3
    metrics = made()
    metrics.count("uid2_requests_total", path="x" * 1000)
    assert b"x" * LABEL_LENGTH + b'"' in metrics.render()
    metrics.count("uid2_requests_total", path='a"b\nc\ud800')
    assert b'a\\"b\\nc?' in metrics.render()


def test_workers_are_joined_by_kind_and_rule() -> None:
    states = []
    for number in (1, 2):
        metrics = made()
        metrics.count("uid2_requests_total", number, path="/a")
        metrics.observe("uid2_load_seconds", number, store="salt")
        for name in ("uid2_age", "uid2_oldest", "uid2_connections"):
            metrics.gauge(name, number)
        states.append(metrics.state())
    found = {name.partition("{")[0]: value for name, value in samples(render_states("uid2-operator", states)).items()}
    assert found == {
        "uid2_requests_total": 3,
        "uid2_load_seconds_count": 2,
        "uid2_load_seconds_sum": 3,
        "uid2_load_seconds_max": 2,
        "uid2_age": 2,
        "uid2_oldest": 1,
        "uid2_connections": 3,
    }


def test_sampled_gauges_are_read_when_asked_for() -> None:
    metrics = made()
    values = iter([5.0, None, 6.0])
    metrics.sample("uid2_age", lambda: next(values))
    assert [samples(metrics.render())['uid2_age{application="uid2-operator"}'] for _ in range(3)] == [5, 5, 6]


def test_misuse_is_told() -> None:
    metrics = made()
    with pytest.raises(ValueError, match="_total"):
        metrics.declare("uid2_requests", MetricKind.COUNTER)
    with pytest.raises(ValueError, match="twice"):
        metrics.declare("uid2_age", MetricKind.GAUGE)
    with pytest.raises(ValueError, match="labels"):
        metrics.count("uid2_requests_total", store="x")
    with pytest.raises(ValueError, match="gauge"):
        metrics.count("uid2_age")
    with pytest.raises(ValueError, match="falls"):
        metrics.count("uid2_requests_total", -1, path="/a")
