"""The declared metrics and their page."""

import re
from pathlib import Path

from uid2.operator.metric_names import BOUNDS, METRICS, OperatorMetrics, metrics_reference
from uid2.service.clock import FixedClock
from uid2.service.metrics import OTHER

ROOT = Path(__file__).parents[3]


def test_the_page_lists_what_is_declared() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_reference()


def test_every_metric_that_the_source_names_is_declared() -> None:
    declared = {metric.name for metric in METRICS}
    named: set[str] = set()
    for path in (ROOT / "src" / "uid2" / "operator").rglob("*.py"):
        named |= set(re.findall(r'\.(?:count|gauge|observe|sample)\(\s*"(\w+)"', path.read_text()))
    assert len(named) > 20
    assert named <= declared


def test_values_that_callers_choose_are_bounded() -> None:
    metrics = OperatorMetrics(FixedClock(0))
    for number in range(1000):
        metrics.count("uid2_client_versions_total", api_contact="x", client_name=f"n{number}", client_version="v")
    (family,) = [one for one in metrics.state() if one["name"] == "uid2_client_versions_total"]
    assert len(family["series"]) == BOUNDS["client_name"] + 1
    assert any(OTHER in key for key, _ in family["series"])
