"""Every metric of Core, declared in one place (core chapter, 2.7).

Metrics of the reference's platform (`jvm_*`, `vertx_*`, `uid2_vertx_*`) do not exist here.
"""

from typing import Final, NamedTuple

from uid2.service.clock import Clock
from uid2.service.metrics import GaugeRule, MetricKind, Metrics

APPLICATION: Final = "uid2-core"
COUNTER, GAUGE, SUMMARY = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.SUMMARY


class Declared(NamedTuple):
    name: str
    kind: MetricKind
    help: str
    labels: str = ""


# Label values that callers choose, and how many of each are told apart.
BOUNDS: Final = {"client_name": 50, "client_version": 200, "host": 200, "method": 20, "protocol": 20}

METRICS: Final = (
    Declared("uid2_http_requests_total", COUNTER, "requests", "api_contact site_id site_name host status method path"),
    Declared("uid2_client_versions_total", COUNTER, "app versions", "api_contact client_name client_version"),
    Declared(
        "uid2_core_attestations_total",
        COUNTER,
        "verdicts of /attest; reason_code is `none` for accepted ones",
        "protocol verdict reason_code",
    ),
    Declared("uid2_core_attestation_duration_seconds", SUMMARY, "time to a verdict", "protocol"),
    Declared("uid2_core_nonces", GAUGE, "nonces that are neither spent nor replaced"),
    Declared("uid2_config_store_refreshed_total", COUNTER, "successful refreshes", "store"),
    Declared("uid2_config_store_refresh_failures_total", COUNTER, "failed refreshes", "store"),
    Declared("uid2_config_store_consecutive_refresh_failures", GAUGE, "1 after a failure, 0 after a success", "store"),
    Declared("uid2_config_store_refreshtime_ms_total", COUNTER, "accumulated refresh time", "store"),
    Declared("uid2_config_store_version", GAUGE, "loaded version", "store"),
    Declared("uid2_config_store_entry_count", GAUGE, "entries", "store"),
    Declared("uid2_store_refresh_duration_seconds", SUMMARY, "first load", "store_name"),
    Declared("uid2_cache_total_count_total", COUNTER, "operator key look-ups", "cache"),
    Declared("uid2_cache_miss_count_total", COUNTER, "operator key look-ups past the cache", "cache"),
    Declared("uid2_component_health", GAUGE, "1 healthy, 0 not", "component"),
    Declared("app_status", GAUGE, "constant 1", "version"),
)


class CoreMetrics(Metrics):
    """All of `METRICS`, declared."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(APPLICATION, clock)
        for metric in METRICS:
            labels = metric.labels.split()
            bounds = {label: BOUNDS[label] for label in labels if label in BOUNDS}
            rule = GaugeRule.MIN if metric.name == "uid2_component_health" else GaugeRule.MAX
            self.declare(metric.name, metric.kind, metric.help, labels, limits=bounds, rule=rule)


def metrics_reference() -> str:
    """The text of docs/metrics-core.md."""
    rows = [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels.split())} | {m.help} |"
        for m in METRICS
    ]
    head = [
        "# Metrics of Core",
        "",
        'Every series carries `application="uid2-core"`. A summary is exported as `_count`, `_sum` and `_max`.',
        "Not exported: metrics of the reference's platform (`jvm_*`, `vertx_*`, `uid2_vertx_*`).",
        "",
        "| Name | Type | Labels | Meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])
