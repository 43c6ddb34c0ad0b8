"""The operator's configuration (operator chapter, 15.2): which keys there are and what they mean.

Three kinds of keys: those with an effect here; those the reference knows but that have none here, accepted silently;
and our own, marked below.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import IdentityScope
from uid2.protocol.secret import Secret
from uid2.service.config import ConfigKey, Kind
from uid2.stores.kinds import KINDS

TRUE_TEXTS: Final = {"true": True, "false": False}

# Keys with an effect, by the form of their value.
BOOLEANS: Final[Mapping[str, bool]] = {
    "enable_v2_encryption": True,
    "enable_phone_support": True,
    "identity_v3": False,
    "client_side_token_generate": False,
    "client_side_token_generate_domain_name_check_enabled": True,
    "client_side_token_generate_log_invalid_http_origins": False,
    "key_sharing_endpoint_provide_app_names": False,
    "validate_service_links": False,
    "optout_status_api_enabled": True,
    "enable_remote_config": False,
    "storage_mock": False,
    "encrypted_files": False,
    "optout_s3_path_compat": False,
}
NUMBERS: Final[Mapping[str, int]] = {
    "tcf_vendor_id": 21,
    "allow_clock_skew_seconds": 1800,
    "optout_status_max_request_size": 5000,
    "config_scan_period_ms": 10_000,
    **{kind.refresh_key: 10_000 for kind in KINDS.values() if kind.refresh_key != "config_scan_period_ms"},
    "salts_expired_shutdown_hours": 12,
    "store_refresh_stale_shutdown_hours": 12,
    "pod_termination_check_interval": 3000,
    "cloud_refresh_interval": 60,
    "optout_old_count_threshold_seconds": 3600,
    "logging_limit_max_invalid_paths_per_interval": 50,
    "logging_limit_max_version_buckets_per_site": 50,
    "service_instances": 1,
    # ours
    "port_offset": 0,
    "worker_processes": 0,
    "bulk_queue_seconds": 10,
    "bulk_queue_bytes": 256 << 20,
    "bulk_threads": 0,
}
TEXTS: Final[Mapping[str, str | None]] = {
    "identity_scope": "uid2",
    "core_attest_url": None,
    "operator_type": "public",
    "enclave_platform": None,
    "optout_metadata_path": None,
    "core_s3_bucket": None,
    **{kind.path_key: f"{kind.name}/metadata.json" for kind in KINDS.values()},
    "uid_instance_id_prefix": "local-operator",
    "aws_region": None,
    "aws_access_key_id": None,
    "aws_s3_endpoint": "",
    "optout_api_uri": None,
    "optout_s3_bucket": None,
    "optout_s3_folder": "optout/",
    "optout_data_dir": None,
    # ours
    "storage_mock_root": None,
    "static_dir": None,
    "http_loop": None,
    "http_host": "0.0.0.0",  # noqa: S104 - the service port is for callers from outside
    "environment": None,
    "bulk_engine": "auto",
    "identity_record": None,
    "dangerous_simulated_tee": None,
}
SECRETS: Final = ("core_api_token", "optout_api_token", "aws_secret_access_key")
RUNTIME: Final = (
    "identity_token_expires_after_seconds",
    "refresh_token_expires_after_seconds",
    "refresh_identity_token_after_seconds",
    "sharing_token_expiry_seconds",
    "max_bidstream_lifetime_seconds",
    "max_sharing_lifetime_seconds",
    "identity_environment",
)
# Known to the reference, without effect here: sizes of its memory structures, its cloud platforms, removed switches.
ACCEPTED: Final = (
    "enable_async_batch_request",
    "maa_server_base_url",
    "azure_vault_name",
    "azure_secret_name",
    "gcp_secret_version_name",
    "aws_s3_verbose_logging",
    "optout_inmem_cache",
    "optout_bloom_filter_size",
    "optout_heap_default_capacity",
    "optout_delta_rotate_interval",
    "optout_delta_backtrack_in_days",
    "optout_partition_interval",
    "optout_max_partitions",
    "optout_producer_max_replicas",
    "optout_synthetic_logs_enabled",
    "optout_synthetic_logs_count",
    "cloud_download_threads",
    "cloud_upload_threads",
    "service_verbose",
    "failure_shutdown_wait_hours",
    "refresh_token_v3",
    "enable_v1_phone_support",
    "keys_metadata_path",
    "keys_acl_metadata_path",
    "allow_legacy_api",
    "enforce_https",
    "runtime_config_store",
    "disable_optout_token",
)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Every value with an effect, under the name of its key. Periods and limits are in the unit of the name."""

    identity_scope: IdentityScope = IdentityScope.UID2
    enable_v2_encryption: bool = True
    enable_phone_support: bool = True
    identity_v3: bool = False
    tcf_vendor_id: int = 21
    allow_clock_skew_seconds: int = 1800
    client_side_token_generate: bool = False
    client_side_token_generate_domain_name_check_enabled: bool = True
    client_side_token_generate_log_invalid_http_origins: bool = False
    key_sharing_endpoint_provide_app_names: bool = False
    validate_service_links: bool = False
    optout_status_api_enabled: bool = True
    optout_status_max_request_size: int = 5000
    enable_remote_config: bool = False
    storage_mock: bool = False
    storage_mock_root: Path | None = None
    encrypted_files: bool = False
    core_attest_url: str | None = None
    core_api_token: Secret | None = None
    operator_type: str = "public"
    enclave_platform: str | None = None
    dangerous_simulated_tee: str | None = None
    identity_record: Path | None = None
    core_s3_bucket: str | None = None
    metadata_paths: Mapping[str, str] = field(default_factory=dict)
    refresh_ms: Mapping[str, int] = field(default_factory=dict)
    runtime_members: Mapping[str, Any] = field(default_factory=dict)
    salts_expired_shutdown_hours: int = 12
    store_refresh_stale_shutdown_hours: int = 12
    pod_termination_check_interval: int = 3000
    uid_instance_id_prefix: str = "local-operator"
    aws_region: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: Secret | None = None
    aws_s3_endpoint: str = ""
    optout_api_uri: str | None = None
    optout_metadata_path: str | None = None
    optout_s3_bucket: str | None = None
    optout_s3_folder: str = "optout/"
    optout_s3_path_compat: bool = False
    optout_data_dir: Path | None = None
    optout_old_count_threshold_seconds: int = 3600
    cloud_refresh_interval: int = 60
    logging_limit_max_invalid_paths_per_interval: int = 50
    logging_limit_max_version_buckets_per_site: int = 50
    service_instances: int = 1
    port_offset: int = 0
    worker_processes: int = 0
    bulk_queue_seconds: int = 10
    bulk_queue_bytes: int = 256 << 20
    bulk_threads: int = 0
    bulk_engine: str = "auto"
    static_dir: Path | None = None
    http_loop: str | None = None
    http_host: str = "0.0.0.0"  # noqa: S104 - as above
    environment: str | None = None

    @property
    def service_port(self) -> int:
        return 8080 + self.port_offset

    @property
    def ops_ports(self) -> tuple[int, ...]:
        return (9080 + self.port_offset, 9091 + self.port_offset)

    @property
    def lane_threads(self) -> int:
        """Threads for bulk work: as configured, else one per core."""
        return self.bulk_threads or max(1, os.cpu_count() or 1)


def config_keys() -> tuple[ConfigKey, ...]:
    """The keys with an effect, for `load_configuration`; `ACCEPTED` are the silent ones."""
    return (
        *(ConfigKey(name, Kind.BOOLEAN, default) for name, default in BOOLEANS.items()),
        *(ConfigKey(name, Kind.INTEGER, default) for name, default in NUMBERS.items()),
        *(ConfigKey(name, Kind.TEXT, default) for name, default in TEXTS.items()),
        *(ConfigKey(name, Kind.TEXT, None, secret=True) for name in SECRETS),
        *(ConfigKey(name, Kind.TEXT if name == "identity_environment" else Kind.INTEGER) for name in RUNTIME),
    )


def settings_of(members: Mapping[str, Any]) -> OperatorSettings:
    """The settings of a configuration; ConfigurationError names the key and the expected form."""
    values: dict[str, Any] = {name: _boolean(members, name, default) for name, default in BOOLEANS.items()}
    values |= {name: _number(members, name, default) for name, default in NUMBERS.items()}
    values |= {name: _text(members, name, default) for name, default in TEXTS.items()}
    for name in SECRETS:
        secret = _text(members, name, None)
        values[name] = None if secret is None else Secret(secret.encode())
    # The reference calls the opt-out service with the operator key; a token of its own counts where there is none.
    values["core_api_token"] = values["core_api_token"] or values["optout_api_token"]
    values["identity_scope"] = _scope(values["identity_scope"])
    for name in ("storage_mock_root", "static_dir", "optout_data_dir", "identity_record"):
        values[name] = None if values[name] is None else Path(values[name])
    values["metadata_paths"] = {kind.name: values[kind.path_key] for kind in KINDS.values()}
    values["refresh_ms"] = {kind.name: values[kind.refresh_key] for kind in KINDS.values()}
    values["runtime_members"] = {name: members[name] for name in RUNTIME if members.get(name) is not None}
    known = OperatorSettings.__dataclass_fields__
    return OperatorSettings(**{name: value for name, value in values.items() if name in known})


def _boolean(members: Mapping[str, Any], name: str, default: bool) -> bool:
    value = members.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        value = TRUE_TEXTS.get(value.lower())
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def _number(members: Mapping[str, Any], name: str, default: int) -> int:
    value = members.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise _wrong(name, "a whole number") from None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, "a whole number, 0 or more")
    return value


def _text(members: Mapping[str, Any], name: str, default: str | None) -> str | None:
    value = members.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise _wrong(name, "a text")
    return value


def _scope(text: str | None) -> IdentityScope:
    try:
        return IdentityScope[(text or "").upper()]
    except KeyError:
        raise _wrong("identity_scope", "uid2 or euid") from None


def _wrong(name: str, form: str) -> ConfigurationError:
    return ConfigurationError(f"configuration key {name} must be {form}", next_step=f"correct {name}")
