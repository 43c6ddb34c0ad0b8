"""Every metric of the operator, declared in one place (operator chapter, 14.4 and 14.5).

Metrics of the reference's platform (`jvm_*`, `vertx_*`, `uid2_vertx_*`) do not exist here.
"""

from typing import Final, NamedTuple

from uid2.service.clock import Clock
from uid2.service.metrics import GaugeRule, MetricKind, Metrics

APPLICATION: Final = "uid2-operator"
COUNTER, GAUGE, SUMMARY = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.SUMMARY


class Declared(NamedTuple):
    name: str
    kind: MetricKind
    help: str
    labels: str = ""


# Label values that callers choose, and how many of each are told apart.
BOUNDS: Final = {"client_name": 50, "client_version": 200, "host": 200, "method": 20}

_SITE = "site_id site_name"
_MAP = "api_contact path dii_type"
_TRANSFERS = (
    Declared("uid2_cloud_downloading", GAUGE, "opt-out files still to be fetched", "store"),
    Declared("uid2_cloud_uploading", GAUGE, "always 0: an operator uploads nothing", "store"),
    Declared("uid2_cloud_refreshed_total", COUNTER, "opt-out synchronisations", "store"),
    Declared("uid2_cloud_refresh_skipped_total", COUNTER, "opt-out synchronisations due while one ran", "store"),
    Declared("uid2_cloud_refresh_failures_total", COUNTER, "failed opt-out synchronisations", "store"),
    Declared("uid2_cloud_downloaded_total", COUNTER, "opt-out files fetched", "store"),
    Declared("uid2_cloud_uploaded_total", COUNTER, "always 0, as above", "store"),
    Declared("uid2_cloud_download_failures_total", COUNTER, "opt-out files that could not be fetched", "store"),
    Declared("uid2_cloud_upload_failures_total", COUNTER, "always 0, as above", "store"),
    Declared(
        "uid2_cloud_downloaded_consecutive_refresh_failures", GAUGE, "1 after a failure, 0 after a success", "store"
    ),
    Declared("uid2_cloud_download_duration_seconds", SUMMARY, "fetching an opt-out file", "store_name status"),
    Declared(
        "uid2_cloud_decryption_runs_total", COUNTER, "encrypted store files opened, or not", "key_id store status"
    ),
)

METRICS: Final = (
    Declared(
        "uid2_http_requests_total",
        COUNTER,
        "requests",
        "api_contact site_id site_name host status method path",
    ),
    Declared("uid2_client_versions_total", COUNTER, "app versions", "api_contact client_name client_version"),
    Declared("uid2_client_sdk_versions_total", COUNTER, "SDK versions", "site_id api_contact client_version path"),
    Declared(
        "uid2_token_response_status_count_total",
        COUNTER,
        "outcomes of token endpoints",
        f"{_SITE} token_endpoint token_response_status advertising_token_version cstg platform_type",
    ),
    Declared("uid2_token_generate_tcf_usage_total", COUNTER, "requests with a consent string", "api_contact"),
    Declared(
        "uid2_token_refresh_duration_seconds",
        SUMMARY,
        "age of tokens at refresh",
        f"{_SITE} api_contact has_origin_header",
    ),
    Declared(
        "uid2_advertising_token_expired_on_refresh_total",
        COUNTER,
        "refreshes by whether the advertising token had expired",
        f"{_SITE} has_origin_header is_expired",
    ),
    Declared(
        "uid2_refresh_token_received_count_total", COUNTER, "decoded refresh tokens", "site_id refresh_token_version"
    ),
    Declared(
        "uid2_refresh_token_served_count_total", COUNTER, "issued refresh tokens", "site_id refresh_token_version"
    ),
    Declared("uid2_token_validate_total", COUNTER, "outcomes of token/validate", f"{_SITE} result"),
    Declared("uid2_raw_uid_version_total", COUNTER, "raw UIDs computed", "version"),
    Declared("uid2_operator_identity_map_inputs", SUMMARY, "identifiers per request and field", _MAP),
    Declared("uid2_operator_identity_map_unmapped_total", COUNTER, "unmapped identifiers", "api_contact reason path"),
    Declared(
        "uid2_operator_identity_map_unmapped_requests_total",
        COUNTER,
        "requests with unmapped identifiers",
        "api_contact path",
    ),
    Declared(
        "uid2_operator_identity_map_services_inputs",
        SUMMARY,
        "identifiers per request through service links",
        f"{_MAP} service_name service_link_name",
    ),
    Declared(
        "uid2_operator_identity_map_services_unmapped_total",
        COUNTER,
        "unmapped identifiers through service links",
        "api_contact reason path service_name service_link_name",
    ),
    Declared("uid2_operator_optout_status_input_size", SUMMARY, "ids per opt-out status request", "api_contact"),
    Declared("uid2_operator_optout_status_optout_size", SUMMARY, "opted-out ids per request", "api_contact"),
    Declared("uid2_site_keyset_status_total", COUNTER, "choice of the site key per token", "site_id status"),
    Declared("uid2_operator_bulk_refused_total", COUNTER, "bulk requests answered 429"),
    Declared("uid2_config_store_refreshed_total", COUNTER, "successful refreshes", "store"),
    Declared("uid2_config_store_refresh_failures_total", COUNTER, "failed refreshes", "store"),
    Declared("uid2_config_store_consecutive_refresh_failures", GAUGE, "1 after a failure, 0 after a success", "store"),
    Declared("uid2_config_store_refreshtime_ms_total", COUNTER, "accumulated refresh time", "store"),
    Declared("uid2_config_store_version", GAUGE, "loaded version", "store"),
    Declared("uid2_config_store_entry_count", GAUGE, "entries", "store"),
    Declared("uid2_scoped_store_entry_count", GAUGE, "entries of the reader", "store"),
    Declared("uid2_store_refresh_duration_seconds", SUMMARY, "first load", "store_name"),
    *_TRANSFERS,
    Declared("uid2_cache_total_count_total", COUNTER, "client key look-ups", "cache"),
    Declared("uid2_cache_miss_count_total", COUNTER, "client key look-ups past the cache", "cache"),
    Declared("uid2_second_level_salt_last_updated_max", GAUGE, "latest update of a salt, UTC ms"),
    Declared("uid2_second_level_salt_last_updated_min", GAUGE, "earliest update of a salt, UTC ms"),
    Declared("uid2_second_level_salt_current_effective", GAUGE, "start of the salts in use, UTC ms"),
    Declared("uid2_encryption_key_activates", GAUGE, "activation of the site's active key, UTC s", "site_id"),
    Declared(
        "uid2_optout_processing_seconds", SUMMARY, "building the opt-out index: partitions when one is new", "file_type"
    ),
    Declared("uid2_optout_get_optout_timestamp_seconds", SUMMARY, "look-ups of token calls, one in 64", "bloom_filter"),
    Declared("uid2_optout_get_ad_id_optout_timestamp_seconds", SUMMARY, "mean look-up of a request by raw UID"),
    Declared("uid2_optout_entries_indexed", GAUGE, "opt-outs indexed"),
    Declared("uid2_optout_ad_id_count", GAUGE, "raw UIDs indexed"),
    Declared("uid2_optout_bloomfilter_size", GAUGE, "always 0: the index needs no bloom filter"),
    Declared("uid2_optout_bloomfilter_max", GAUGE, "always 0, as above"),
    Declared("uid2_optout_deltas_indexed_total", COUNTER, "delta files taken into the index"),
    Declared("uid2_optout_partitions_indexed_total", COUNTER, "partition files taken into the index"),
    Declared("uid2_operator_optout_old_count", GAUGE, "identities with an opt-out that was old at the last build"),
    Declared("uid2_operator_optout_files", GAUGE, "files in the index", "file_type"),
    Declared("uid2_operator_optout_file_age_seconds", GAUGE, "now minus the time of the newest file; -1: no file"),
    Declared("uid2_operator_optout_refresh_age_seconds", GAUGE, "since the last good list of files; -1: none yet"),
    Declared("uid2_operator_optout_tail_age_seconds", GAUGE, "since the live tail last answered; -1: it does not"),
    Declared("uid2_operator_optout_overlay_entries", GAUGE, "opt-outs taken that no indexed file holds yet"),
    Declared("uid2_optout_index_updated_total", COUNTER, "updates of the opt-out index"),
    Declared("uid2_api_usage_log_cycle_skipped_total", COUNTER, "usage log cycles skipped"),
    Declared("uid2_api_usage_domain_missed_total", COUNTER, "domains beyond the usage log's limit"),
    Declared("uid2_api_usage_queue_full_total", COUNTER, "usage messages dropped"),
    Declared("uid2_operator_attestations_total", COUNTER, "attempts to attest: accepted, failed, refused", "result"),
    Declared("uid2_operator_attested", GAUGE, "1 while the attestation is valid"),
    Declared("uid2_operator_attestation_expires", GAUGE, "end of the attestation, UTC s"),
    Declared("uid2_operator_stop_in_seconds", GAUGE, "until this operator stops for want of Core; -1: it works"),
    Declared("uid2_operator_core_clock_skew_seconds", GAUGE, "this clock minus Core's"),
    Declared("uid2_operator_evidence_total", COUNTER, "answers of /ops/evidence", "status"),
    Declared("uid2_component_health", GAUGE, "1 healthy, 0 not", "component"),
    Declared("uid2_operator_startup_duration_seconds", SUMMARY, "process start to listening"),
    Declared("app_status", GAUGE, "constant 1", "version"),
)


class OperatorMetrics(Metrics):
    """All of `METRICS`, declared."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(APPLICATION, clock)
        for metric in METRICS:
            labels = metric.labels.split()
            bounds = {label: BOUNDS[label] for label in labels if label in BOUNDS}
            rule = GaugeRule.MIN if metric.name in ("uid2_component_health",) else GaugeRule.MAX
            self.declare(metric.name, metric.kind, metric.help, labels, limits=bounds, rule=rule)


_HEAD: Final = """\
# Metrics

Every series carries `application="uid2-operator"`. A summary is exported as `_count`, `_sum` and `_max`.
With several worker processes counters and summaries are sums, those of workers that ended included.

| Name | Type | Labels | Meaning |
|---|---|---|---|
"""
_NOTES: Final = """
## What differs from the reference

- Metrics of its platform do not exist here, since there is no such machine: `jvm_*`, `vertx_http_server_*`,
  `vertx_http_client_*`, `vertx_net_*`, `vertx_pool_*`, `vertx_eventbus_*`, `uid2_vertx_service_instances`,
  `uid2_vertx_event_loop_threads`. `/ops/status` has the number of processes.
- The opt-out index is exact and has no bloom filter: its two sizes are 0, `bloom_filter` is `true_positive` (found) or
  `true_negative` (not found), never `false_positive`.
- `uid2_optout_get_optout_timestamp_seconds` times one token call in 64 of a process; `_count` counts those. Bulk
  requests look up all their identities in one native call and are not in it.
- `uid2_optout_get_ad_id_optout_timestamp_seconds` has one observation per request of `/v2/optout/status`: the time of
  the whole divided by its ids.
- `uid2_operator_optout_old_count` counts the identities of the files with an opt-out that was older than
  `optout_old_count_threshold_seconds` when an index was last built; one that is in several indices counts in each.
- `uid2_cloud_*` of transfers is about opt-out files, `store="optout"`; what is on the disk is not fetched again.
"""


def metrics_reference() -> str:
    """The text of docs/metrics.md."""
    rows = [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels.split())} | {m.help} |\n"
        for m in METRICS
    ]
    return "".join([_HEAD, *rows, _NOTES])
