"""The declared metrics and their page."""

import re
from pathlib import Path

import pytest

from uid2.operator.metric_names import BOUNDS, METRICS, OperatorMetrics, metrics_reference
from uid2.service.clock import FixedClock
from uid2.service.metrics import OTHER

ROOT = Path(__file__).parents[3]

# Operator chapter, 14.4 and 14.5, and opt-out chapter, 13: name, kind, labels. Not the platform's own.
REFERENCE = """
uid2_http_requests_total counter api_contact site_id site_name host status method path
uid2_client_versions_total counter api_contact client_name client_version
uid2_client_sdk_versions_total counter site_id api_contact client_version path
uid2_token_response_status_count_total counter site_id site_name token_endpoint token_response_status \
advertising_token_version cstg platform_type
uid2_token_generate_tcf_usage_total counter api_contact
uid2_token_refresh_duration_seconds summary site_id site_name api_contact has_origin_header
uid2_advertising_token_expired_on_refresh_total counter site_id site_name has_origin_header is_expired
uid2_refresh_token_received_count_total counter site_id refresh_token_version
uid2_refresh_token_served_count_total counter site_id refresh_token_version
uid2_token_validate_total counter site_id site_name result
uid2_raw_uid_version_total counter version
uid2_operator_identity_map_inputs summary api_contact path dii_type
uid2_operator_identity_map_unmapped_total counter api_contact reason path
uid2_operator_identity_map_unmapped_requests_total counter api_contact path
uid2_operator_identity_map_services_inputs summary api_contact service_name service_link_name path dii_type
uid2_operator_identity_map_services_unmapped_total counter api_contact reason service_name service_link_name path
uid2_operator_optout_status_input_size summary api_contact
uid2_operator_optout_status_optout_size summary api_contact
uid2_site_keyset_status_total counter site_id status
uid2_config_store_refreshed_total counter store
uid2_config_store_refresh_failures_total counter store
uid2_config_store_consecutive_refresh_failures gauge store
uid2_config_store_refreshtime_ms_total counter store
uid2_config_store_version gauge store
uid2_config_store_entry_count gauge store
uid2_scoped_store_entry_count gauge store
uid2_store_refresh_duration_seconds summary store_name
uid2_cloud_downloading gauge store
uid2_cloud_uploading gauge store
uid2_cloud_refreshed_total counter store
uid2_cloud_refresh_skipped_total counter store
uid2_cloud_refresh_failures_total counter store
uid2_cloud_downloaded_total counter store
uid2_cloud_uploaded_total counter store
uid2_cloud_download_failures_total counter store
uid2_cloud_upload_failures_total counter store
uid2_cloud_downloaded_consecutive_refresh_failures gauge store
uid2_cloud_download_duration_seconds summary store_name status
uid2_cloud_decryption_runs_total counter key_id store status
uid2_cache_total_count_total counter cache
uid2_cache_miss_count_total counter cache
uid2_second_level_salt_last_updated_max gauge
uid2_second_level_salt_last_updated_min gauge
uid2_second_level_salt_current_effective gauge
uid2_encryption_key_activates gauge site_id
uid2_optout_processing_seconds summary file_type
uid2_optout_get_optout_timestamp_seconds summary bloom_filter
uid2_optout_get_ad_id_optout_timestamp_seconds summary
uid2_optout_ad_id_count gauge
uid2_optout_entries_indexed gauge
uid2_optout_bloomfilter_size gauge
uid2_optout_bloomfilter_max gauge
uid2_optout_deltas_indexed_total counter
uid2_optout_partitions_indexed_total counter
uid2_optout_index_updated_total counter
uid2_operator_optout_old_count gauge
uid2_api_usage_log_cycle_skipped_total counter
uid2_api_usage_domain_missed_total counter
uid2_api_usage_queue_full_total counter
uid2_component_health gauge component
uid2_operator_startup_duration_seconds summary
app_status gauge version
""".replace("\\\n", "")


@pytest.mark.parametrize("line", REFERENCE.strip().splitlines())
def test_every_metric_of_the_reference_is_declared_and_fed(line: str) -> None:
    name, kind, *labels = line.split()
    declared = {metric.name: metric for metric in METRICS}[name]
    assert (declared.kind, set(declared.labels.split())) == (kind, set(labels))
    sources = [path.read_text() for path in (ROOT / "src" / "uid2" / "operator").rglob("*.py")]
    # The declaration is one place, what feeds it another; two names are put together from their file type.
    fed = name.replace("deltas", "{name}").replace("partitions", "{name}") if "s_indexed" in name else name
    assert sum(text.count(f'"{fed}"') for text in sources) >= (1 if fed != name else 2)


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
