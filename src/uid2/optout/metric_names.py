"""Every metric of the opt-out service, declared in one place (opt-out chapter, section 13)."""

from typing import Final, NamedTuple

from uid2.service.clock import Clock
from uid2.service.metrics import GaugeRule, MetricKind, Metrics

APPLICATION: Final = "uid2-optout"
COUNTER, GAUGE, SUMMARY = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.SUMMARY


class Declared(NamedTuple):
    name: str
    kind: MetricKind
    help: str
    labels: str = ""


BOUNDS: Final = {"method": 20, "remote_partner": 100}

METRICS: Final = (
    Declared("uid2_optout_requests_total", COUNTER, "opt-outs by outcome: accepted or not_durable", "outcome"),
    Declared("uid2_optout_sqs_delta_produced_total", COUNTER, "delta files written"),
    Declared("uid2_optout_sqs_entries_processed_total", COUNTER, "opt-outs written to delta files"),
    Declared("uid2_optout_sqs_dropped_request_files_produced_total", COUNTER, "files of denied opt-outs"),
    Declared("uid2_optout_sqs_dropped_requests_processed_total", COUNTER, "denied opt-outs"),
    Declared("uid2_optout_partition_produced_total", COUNTER, "partition files written"),
    Declared("uid2_optout_entries_sent_total", COUNTER, "calls to partners", "remote_partner status"),
    Declared("uid2_optout_last_entry_sent", GAUGE, "time of the last opt-out sent, epoch seconds", "remote_partner"),
    Declared("uid2_optout_pending_deltas_to_send", GAUGE, "deltas not sent yet", "remote_partner"),
    Declared("uid2_optout_queue_waiting", GAUGE, "opt-outs that are in no file yet"),
    Declared("uid2_optout_tail_unsent", GAUGE, "opt-outs taken here that other machines cannot see yet"),
    Declared("uid2_optout_last_listing", GAUGE, "time of the last good listing of the bucket, epoch seconds"),
    Declared("uid2_optout_newest_file", GAUGE, "time in the name of the newest file, epoch seconds"),
    Declared("uid2_optout_halted", GAUGE, "1 while production is halted by the breaker or by hand"),
    Declared("uid2_optout_halted_since", GAUGE, "since when production is halted, epoch seconds; 0: it is not"),
    Declared("uid2_optout_attestations_total", COUNTER, "attempts: accepted, refused or failed", "result"),
    Declared("uid2_optout_attested", GAUGE, "1 while Core's attestation token is valid"),
    Declared("uid2_optout_attestation_expires", GAUGE, "end of the attestation, epoch seconds"),
    Declared("uid2_optout_core_failing_seconds", GAUGE, "since when Core has failed without a success, 0: it has not"),
    Declared("uid2_optout_core_clock_skew_seconds", GAUGE, "this clock minus Core's"),
    Declared("uid2_optout_store_refreshed", GAUGE, "time of the last good refresh, epoch seconds", "store"),
    Declared("uid2_cloud_refreshed_total", COUNTER, "good listings", "store"),
    Declared("uid2_cloud_refresh_failures_total", COUNTER, "failed listings", "store"),
    Declared("uid2_cloud_downloaded_consecutive_refresh_failures", GAUGE, "failed listings in a row", "store"),
    Declared("uid2_http_requests_total", COUNTER, "requests", "api_contact site_id status method path"),
    Declared("uid2_config_store_refreshed_total", COUNTER, "successful refreshes", "store"),
    Declared("uid2_config_store_refresh_failures_total", COUNTER, "failed refreshes", "store"),
    Declared("uid2_config_store_consecutive_refresh_failures", GAUGE, "1 after a failure, 0 after a success", "store"),
    Declared("uid2_config_store_version", GAUGE, "loaded version", "store"),
    Declared("uid2_config_store_entry_count", GAUGE, "entries", "store"),
    Declared("uid2_component_health", GAUGE, "1 healthy, 0 not", "component"),
    Declared("app_status", GAUGE, "constant 1", "version"),
)


class OptOutMetrics(Metrics):
    """All of `METRICS`, declared."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(APPLICATION, clock)
        for metric in METRICS:
            labels = metric.labels.split()
            bounds = {label: BOUNDS[label] for label in labels if label in BOUNDS}
            rule = GaugeRule.MIN if metric.name == "uid2_component_health" else GaugeRule.MAX
            self.declare(metric.name, metric.kind, metric.help, labels, limits=bounds, rule=rule)
