from pathlib import Path

from uid2.core.metric_names import METRICS, CoreMetrics, metrics_reference

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_lists_every_metric() -> None:
    assert (DOCS / "metrics-core.md").read_text() == metrics_reference()


def test_every_metric_can_be_recorded() -> None:
    metrics = CoreMetrics()
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels.split(), "x")
        {"counter": metrics.count, "gauge": metrics.gauge, "summary": metrics.observe}[metric.kind](
            metric.name, 1.0, **labels
        )
    assert b'application="uid2-core"' in metrics.render()
