"""The opt-out service's configuration (opt-out chapter, 10.1): the keys, and what production refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from uid2.corelink.endpoints import check_attest_url
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import Environment
from uid2.protocol.secret import Secret
from uid2.service.config import GUARDED_ENVIRONMENTS, PORT_OFFSET, ConfigKey, Configuration, Kind
from uid2.service.config_values import (
    at_least,
    bucket_options,
    environment_of,
    needed_secret,
    path_of,
    positive,
    url_of,
)

DEVELOPMENT: Final = "development"
ENVIRONMENTS: Final = (DEVELOPMENT, "test", *GUARDED_ENVIRONMENTS)
DATA_DIR: Final = "/opt/uid2/optout/"
FILE_SCHEME: Final = "file://"
AUTO: Final = "auto"
SHARED_TAIL: Final = (AUTO, "on", "off")
# SQS hides a message for twelve hours at most.
LONGEST_VISIBILITY: Final = 43_200
DEFAULT_PARTNERS: Final = "partners/config.json"
OPERATORS_PATH: Final = "operators/metadata.json"

KEYS: Final = (
    ConfigKey("service_instances", Kind.INTEGER, 4),
    ConfigKey("service_verbose", Kind.BOOLEAN, True),
    ConfigKey("storage_mock", Kind.BOOLEAN, False),
    ConfigKey("core_attest_url"),
    ConfigKey("core_api_token", secret=True),
    ConfigKey("operators_metadata_path", Kind.TEXT, OPERATORS_PATH),
    ConfigKey("partners_metadata_path"),
    ConfigKey("partners_config_path", Kind.TEXT, DEFAULT_PARTNERS),
    ConfigKey("att_token_enc_key", secret=True),
    ConfigKey("att_token_enc_salt", secret=True),
    ConfigKey("aws_kms_jwt_signing_public_keys", Kind.TEXT, ""),
    ConfigKey("core_public_url"),
    ConfigKey("optout_url"),
    ConfigKey("enforceJwt", Kind.BOOLEAN, True),
    ConfigKey("optout_internal_api_token", secret=True),
    ConfigKey("optout_observe_only", Kind.BOOLEAN, False),
    ConfigKey("optout_s3_bucket", secret=True),
    ConfigKey("optout_s3_folder", Kind.TEXT, "optout/"),
    ConfigKey("optout_s3_path_compat", Kind.BOOLEAN, False),
    ConfigKey("optout_s3_bucket_dropped_requests", secret=True),
    ConfigKey("optout_data_dir", Kind.TEXT, DATA_DIR),
    ConfigKey("optout_partner_endpoint_mock", Kind.BOOLEAN, False),
    ConfigKey("optout_producer_replica_id", Kind.INTEGER, 0),
    ConfigKey("optout_producer_replica_id_offset", Kind.INTEGER, 0),
    ConfigKey("optout_producer_max_replicas", Kind.INTEGER, 3),
    ConfigKey("optout_sender_replica_id", Kind.INTEGER, 0),
    ConfigKey("optout_delta_rotate_interval", Kind.INTEGER, 300),
    ConfigKey("optout_partition_interval", Kind.INTEGER, 86_400),
    ConfigKey("optout_max_partitions", Kind.INTEGER, 90),
    ConfigKey("optout_delete_expired", Kind.BOOLEAN, True),
    ConfigKey("optout_sqs_queue_url"),
    ConfigKey("optout_sqs_max_queue_size", Kind.INTEGER, 0),
    ConfigKey("optout_sqs_visibility_timeout", Kind.INTEGER, 300),
    ConfigKey("optout_sqs_delta_window_seconds", Kind.INTEGER, 300),
    ConfigKey("optout_delta_job_timeout_seconds", Kind.INTEGER, 10_800),
    ConfigKey("optout_max_messages_per_file", Kind.INTEGER, 10_000),
    ConfigKey("traffic_filter_config_path"),
    ConfigKey("traffic_calc_config_path"),
    ConfigKey("manual_override_s3_path"),
    ConfigKey("aws_sqs_endpoint"),
    ConfigKey("aws_s3_endpoint"),
    ConfigKey("aws_region"),
    ConfigKey("aws_access_key_id", secret=True),
    ConfigKey("aws_secret_access_key", secret=True),
    ConfigKey("cloud_refresh_interval", Kind.INTEGER, 60),
    ConfigKey("optout_synthetic_logs_enabled", Kind.BOOLEAN, False),
    ConfigKey("optout_synthetic_logs_count", Kind.INTEGER, 0),
    ConfigKey("uid_instance_id_prefix", Kind.TEXT, "local-optout"),
    ConfigKey("pod_termination_check_interval", Kind.INTEGER, 3000),
    ConfigKey(PORT_OFFSET, Kind.INTEGER, 0),
    # ours
    ConfigKey("environment"),
    ConfigKey("http_host", Kind.TEXT, "0.0.0.0"),  # noqa: S104 - the service port is for callers from outside
    ConfigKey("http_loop"),
    ConfigKey("storage_mock_root"),
    ConfigKey("optout_queue_dir"),
    ConfigKey("optout_produce_interval", Kind.INTEGER, 0),
    ConfigKey("optout_shared_tail", Kind.TEXT, AUTO),
)
# Known to the reference, without effect here.
ACCEPTED: Final = (
    "clients_metadata_path",
    "optout_delta_backtrack_in_days",
    "optout_producer_buffer_size",
    "optout_sqs_max_messages_per_poll",
    "cloud_download_threads",
    "cloud_upload_threads",
    "pre_signed_url_expiry",
)


@dataclass(frozen=True, slots=True)
class OptOutSettings:
    """Every value with an effect, under the name of its key. Times are in seconds unless the name says otherwise."""

    att_token_enc_key: Secret
    att_token_enc_salt: Secret
    optout_data_dir: Path
    service_verbose: bool = True
    storage_mock: bool = False
    storage_mock_root: Path | None = None
    core_attest_url: str | None = None
    core_api_token: Secret | None = None
    operators_metadata_path: str = OPERATORS_PATH
    partners_metadata_path: str | None = None
    partners_config_path: str = ""
    aws_kms_jwt_signing_public_keys: str = ""
    core_public_url: str | None = None
    optout_url: str | None = None
    enforce_jwt: bool = True
    optout_internal_api_token: Secret | None = None
    optout_observe_only: bool = False
    optout_s3_bucket: str | None = None
    bucket_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    optout_s3_folder: str = "optout/"
    optout_s3_path_compat: bool = False
    optout_s3_bucket_dropped_requests: str | None = None
    optout_partner_endpoint_mock: bool = False
    replica_id: int = 0
    optout_producer_max_replicas: int = 3
    optout_sender_replica_id: int = 0
    optout_delta_rotate_interval: int = 300
    optout_partition_interval: int = 86_400
    optout_max_partitions: int = 90
    optout_delete_expired: bool = True
    optout_sqs_queue_url: str | None = None
    optout_sqs_max_queue_size: int = 0
    optout_sqs_visibility_timeout: int = 300
    optout_sqs_delta_window_seconds: int = 300
    optout_delta_job_timeout_seconds: int = 10_800
    optout_max_messages_per_file: int = 10_000
    traffic_filter_config_path: Path | None = None
    traffic_calc_config_path: Path | None = None
    manual_override_s3_path: str = "optout/manual-override.json"
    aws_sqs_endpoint: str | None = None
    aws_region: str | None = None
    aws_access_key_id: Secret | None = None
    aws_secret_access_key: Secret | None = None
    cloud_refresh_interval: int = 60
    synthetic_count: int | None = None
    uid_instance_id_prefix: str = "local-optout"
    pod_termination_check_interval: int = 3000
    port_offset: int = 0
    environment: str | None = None
    http_host: str = "0.0.0.0"  # noqa: S104 - as above
    http_loop: str | None = None
    optout_queue_dir: Path = Path("queue")
    optout_produce_interval: int = 0
    optout_shared_tail: str = AUTO

    @property
    def uses_sqs(self) -> bool:
        return self.optout_sqs_queue_url is not None and not self.optout_sqs_queue_url.startswith(FILE_SCHEME)

    @property
    def shares_tail(self) -> bool:
        """Whether instances on other machines may serve the same bucket."""
        if self.optout_shared_tail != AUTO:
            return self.optout_shared_tail == "on"
        local = self.storage_mock or (self.optout_s3_bucket or "").startswith(FILE_SCHEME)
        return self.uses_sqs or not local

    @property
    def service_port(self) -> int:
        return 8081 + self.port_offset

    @property
    def control_port(self) -> int:
        return self.service_port + 1

    @property
    def ops_port(self) -> int:
        return 9081 + self.port_offset

    @property
    def store_paths(self) -> dict[str, str]:
        """Places of the metadata, by store: in the folder of the stores, or at Core."""
        partners = self.partners_metadata_path
        return {"operators": self.operators_metadata_path} | ({} if partners is None else {"partners": partners})

    @property
    def guarded(self) -> bool:
        """Whether this is an installation for real data, where everything that weakens is refused."""
        return self.environment in GUARDED_ENVIRONMENTS

    @property
    def id_environment(self) -> Environment:
        """The environment of version 4 advertising IDs that do not name theirs."""
        return {"prod": Environment.PROD, "integ": Environment.INTEG}.get(self.environment or "", Environment.TEST)


def settings_of(configuration: Configuration, host_name: str = "") -> OptOutSettings:
    """The settings of a configuration; ConfigurationError names the key and what to do.

    `host_name` gives the replica number in Kubernetes when its key is -1.
    """
    data_dir = Path(configuration.text("optout_data_dir") or DATA_DIR)
    folder = configuration.text("optout_s3_folder") or ""
    folder = folder if not folder or folder.endswith("/") else folder + "/"
    sqs = configuration.text("optout_sqs_queue_url") or None
    settings = OptOutSettings(
        att_token_enc_key=needed_secret(configuration, "att_token_enc_key"),
        att_token_enc_salt=needed_secret(configuration, "att_token_enc_salt"),
        optout_data_dir=data_dir,
        service_verbose=configuration.boolean("service_verbose"),
        storage_mock=configuration.boolean("storage_mock"),
        storage_mock_root=path_of(configuration, "storage_mock_root"),
        core_attest_url=url_of(configuration, "core_attest_url"),
        core_api_token=configuration.secret("core_api_token"),
        operators_metadata_path=configuration.text("operators_metadata_path") or OPERATORS_PATH,
        partners_metadata_path=configuration.text("partners_metadata_path") or None,
        partners_config_path=configuration.text("partners_config_path") or "",
        aws_kms_jwt_signing_public_keys=configuration.text("aws_kms_jwt_signing_public_keys") or "",
        core_public_url=url_of(configuration, "core_public_url"),
        optout_url=url_of(configuration, "optout_url"),
        enforce_jwt=configuration.boolean("enforceJwt"),
        optout_internal_api_token=configuration.secret("optout_internal_api_token"),
        optout_observe_only=configuration.boolean("optout_observe_only"),
        optout_s3_bucket=configuration.text("optout_s3_bucket"),
        bucket_options=bucket_options(configuration),
        optout_s3_folder=folder,
        optout_s3_path_compat=configuration.boolean("optout_s3_path_compat"),
        optout_s3_bucket_dropped_requests=configuration.text("optout_s3_bucket_dropped_requests") or None,
        optout_partner_endpoint_mock=configuration.boolean("optout_partner_endpoint_mock"),
        replica_id=_replica_id(configuration, host_name),
        optout_producer_max_replicas=positive(configuration, "optout_producer_max_replicas"),
        optout_sender_replica_id=configuration.integer("optout_sender_replica_id"),
        optout_delta_rotate_interval=positive(configuration, "optout_delta_rotate_interval"),
        optout_partition_interval=positive(configuration, "optout_partition_interval"),
        optout_max_partitions=positive(configuration, "optout_max_partitions"),
        optout_delete_expired=configuration.boolean("optout_delete_expired"),
        optout_sqs_queue_url=sqs,
        optout_sqs_max_queue_size=at_least(configuration, "optout_sqs_max_queue_size", 0),
        optout_sqs_visibility_timeout=positive(configuration, "optout_sqs_visibility_timeout"),
        optout_sqs_delta_window_seconds=at_least(configuration, "optout_sqs_delta_window_seconds", 0),
        optout_delta_job_timeout_seconds=positive(configuration, "optout_delta_job_timeout_seconds"),
        optout_max_messages_per_file=positive(configuration, "optout_max_messages_per_file"),
        traffic_filter_config_path=path_of(configuration, "traffic_filter_config_path"),
        traffic_calc_config_path=path_of(configuration, "traffic_calc_config_path"),
        manual_override_s3_path=configuration.text("manual_override_s3_path") or f"{folder}manual-override.json",
        aws_sqs_endpoint=url_of(configuration, "aws_sqs_endpoint"),
        aws_region=configuration.text("aws_region") or None,
        aws_access_key_id=configuration.secret("aws_access_key_id"),
        aws_secret_access_key=configuration.secret("aws_secret_access_key"),
        cloud_refresh_interval=positive(configuration, "cloud_refresh_interval"),
        synthetic_count=configuration.integer("optout_synthetic_logs_count")
        if configuration.boolean("optout_synthetic_logs_enabled")
        else None,
        uid_instance_id_prefix=configuration.text("uid_instance_id_prefix") or "local-optout",
        pod_termination_check_interval=positive(configuration, "pod_termination_check_interval"),
        port_offset=configuration.integer(PORT_OFFSET),
        environment=environment_of(configuration, ENVIRONMENTS),
        http_host=configuration.text("http_host") or "",
        http_loop=configuration.text("http_loop"),
        optout_queue_dir=path_of(configuration, "optout_queue_dir") or _queue_folder(sqs) or data_dir / "queue",
        optout_produce_interval=at_least(configuration, "optout_produce_interval", 0),
        optout_shared_tail=(configuration.text("optout_shared_tail") or AUTO).lower(),
    )
    check_consistency(settings)
    return settings


def check_consistency(settings: OptOutSettings) -> None:
    """Values that do not fit one another, and those that production refuses; ConfigurationError."""
    if not settings.storage_mock and settings.optout_s3_bucket is None:
        raise ConfigurationError(
            "no place for the opt-out files is configured",
            next_step="set optout_s3_bucket, for example to file:///var/lib/uid2/optout",
        )
    if settings.core_attest_url is None and settings.storage_mock_root is None:
        raise ConfigurationError(
            "no place for the operator keys is configured",
            next_step="set core_attest_url and core_api_token to read them through Core, "
            "or storage_mock_root to a folder with Core's stores",
        )
    if settings.uses_sqs:
        check_sqs(settings)
    if settings.optout_shared_tail not in SHARED_TAIL:
        raise ConfigurationError(
            f"configuration key optout_shared_tail must be one of {', '.join(SHARED_TAIL)}",
            next_step="correct optout_shared_tail, or leave it out",
        )
    if settings.core_attest_url is not None and settings.core_api_token is None:
        raise ConfigurationError(
            "core_attest_url is set and core_api_token is not",
            next_step="set core_api_token to an operator key with the role OPTOUT_SERVICE",
        )
    if settings.guarded:
        for name in ("core_public_url", "optout_url", "core_attest_url", "aws_sqs_endpoint"):
            url = getattr(settings, name)
            if url is not None and urlsplit(url).scheme != "https":
                raise ConfigurationError(
                    f"configuration key {name} must begin with https:// in the environment {settings.environment}",
                    next_step=f"give {name} an https address",
                )
    if settings.core_attest_url is not None:
        check_attest_url(settings.core_attest_url, settings.environment)


def check_sqs(settings: OptOutSettings) -> None:
    """What a queue of SQS needs; ConfigurationError."""
    schemes = ("https", "http") if settings.aws_sqs_endpoint else ("https",)
    try:
        parts = urlsplit(settings.optout_sqs_queue_url or "")
        usable = parts.scheme in schemes and bool(parts.hostname) and len(parts.path) > 1
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "optout_sqs_queue_url must be the https address of an SQS queue, or file:///DIR",
            next_step="correct it, or leave it out for the queue on this machine's disk; "
            "http needs aws_sqs_endpoint, which names a stand-in for SQS",
        )
    if settings.aws_sqs_endpoint and settings.aws_region is None:
        raise ConfigurationError("aws_sqs_endpoint is set and aws_region is not", next_step="set aws_region")
    if settings.optout_sqs_visibility_timeout > LONGEST_VISIBILITY:
        raise ConfigurationError(
            f"configuration key optout_sqs_visibility_timeout must be at most {LONGEST_VISIBILITY} seconds",
            next_step="correct optout_sqs_visibility_timeout",
        )


def _queue_folder(url: str | None) -> Path | None:
    """The folder of a `file://` queue."""
    if url is None or not url.startswith(FILE_SCHEME):
        return None
    return Path(unquote(urlsplit(url).path))


def _replica_id(configuration: Configuration, host_name: str) -> int:
    replica = configuration.integer("optout_producer_replica_id")
    number = host_name.split(".", 1)[0].rpartition("-")[2]
    if replica == -1 and number.isascii() and number.isdigit():
        return int(number) + configuration.integer("optout_producer_replica_id_offset")
    return replica
