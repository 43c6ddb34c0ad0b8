"""Core's configuration (core chapter, 1.1; design, section 4): the keys, and what production refuses (11.3, 11.11)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import Secret
from uid2.service.config import GUARDED_ENVIRONMENTS, PORT_OFFSET, ConfigKey, Configuration, Kind
from uid2.service.config_values import bucket_options, environment_of, needed_secret, path_of, positive, url_of

DEVELOPMENT: Final = "development"
ENVIRONMENTS: Final = (DEVELOPMENT, *GUARDED_ENVIRONMENTS)
INTEL_PCS: Final = "https://api.trustedservices.intel.com/sgx/certification/v4"

STORES: Final = (
    "sites",
    "clients",
    "client_side_keypairs",
    "services",
    "service_links",
    "keys",
    "keys_acl",
    "keysets",
    "keyset_keys",
    "salts",
    "operators",
    "enclaves",
    "partners",
    "cloud_encryption_keys",
)

KEYS: Final = (
    *(ConfigKey(f"{store}_metadata_path", Kind.TEXT, f"{store}/metadata.json", secret=True) for store in STORES),
    ConfigKey("service_instances", Kind.INTEGER, 3),
    ConfigKey("storage_mock", Kind.BOOLEAN, False),
    ConfigKey("storage_mock_root"),
    ConfigKey("core_s3_bucket", secret=True),
    ConfigKey("aws_region"),
    ConfigKey("aws_access_key_id", secret=True),
    ConfigKey("aws_secret_access_key", secret=True),
    ConfigKey("aws_s3_endpoint", Kind.TEXT, ""),
    ConfigKey("pre_signed_url_expiry", Kind.INTEGER, 1800),
    ConfigKey("provide_private_site_data", Kind.BOOLEAN, False),
    ConfigKey("att_token_enc_key", secret=True),
    ConfigKey("att_token_enc_salt", secret=True),
    ConfigKey("att_token_lifetime_seconds", Kind.INTEGER, 7200),
    ConfigKey("enforceJwt", Kind.BOOLEAN, False),
    ConfigKey("aws_kms_jwt_signing_key_id"),
    ConfigKey("aws_kms_jwt_signing_public_keys", Kind.TEXT, ""),
    ConfigKey("core_public_url"),
    ConfigKey("optout_url"),
    ConfigKey("enable_test_endpoints", Kind.BOOLEAN, False),
    ConfigKey("pod_termination_check_interval", Kind.INTEGER, 3000),
    ConfigKey(PORT_OFFSET, Kind.INTEGER, 0),
    # ours
    ConfigKey("environment"),
    ConfigKey("http_host", Kind.TEXT, "0.0.0.0"),  # noqa: S104 - the service port is for callers from outside
    ConfigKey("http_loop"),
    ConfigKey("operator_config_path", Kind.TEXT, "operator/operator-config.json"),
    ConfigKey("private_operator_cstg", Kind.BOOLEAN, False),
    ConfigKey("jwt_signing_key_file"),
    ConfigKey("attestation_collateral_url", Kind.TEXT, INTEL_PCS),
    ConfigKey("attestation_collateral_dir"),
    ConfigKey("attestation_policy", Kind.ANY),
    ConfigKey("attestation_min_report_data_version", Kind.INTEGER, 1),
    ConfigKey("attestation_min_svn", Kind.INTEGER, 2),
    ConfigKey("dangerous_attestation_root"),
)
# Known to the reference, without effect here: its thread pools, its key management service, other protocols.
ACCEPTED: Final = (
    "storage_mock_url_prefix",
    "aws_s3_verbose_logging",
    "aws_kms_region",
    "aws_kms_access_key_id",
    "aws_kms_secret_access_key",
    "aws_kms_endpoint",
    "maa_server_base_url",
    "encryption_support_version",
    "service_verbose",
)


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Every value with an effect, under the name of its key. Times are in the unit of the name."""

    att_token_enc_key: Secret
    att_token_enc_salt: Secret
    metadata_paths: Mapping[str, str] = field(repr=False)
    att_token_lifetime_seconds: int = 7200
    storage_mock: bool = False
    storage_mock_root: Path | None = None
    core_s3_bucket: str | None = None
    bucket_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    pre_signed_url_expiry: int = 1800
    provide_private_site_data: bool = False
    private_operator_cstg: bool = False
    operator_config_path: str = "operator/operator-config.json"
    enforce_jwt: bool = False
    jwt_signing_key_file: Path | None = None
    aws_kms_jwt_signing_key_id: str | None = None
    aws_kms_jwt_signing_public_keys: str = ""
    core_public_url: str | None = None
    optout_url: str | None = None
    enable_test_endpoints: bool = False
    pod_termination_check_interval: int = 3000
    port_offset: int = 0
    environment: str | None = None
    http_host: str = "0.0.0.0"  # noqa: S104 - as above
    http_loop: str | None = None
    attestation_collateral_url: str = INTEL_PCS
    attestation_collateral_dir: Path | None = None
    attestation_policy: Any = None
    attestation_min_report_data_version: int = 1
    attestation_min_svn: int = 2
    dangerous_attestation_root: Path | None = None

    @property
    def service_port(self) -> int:
        return 8088 + self.port_offset

    @property
    def ops_port(self) -> int:
        return 9088 + self.port_offset

    @property
    def guarded(self) -> bool:
        """Whether this is an installation for real data, where everything that weakens is refused."""
        return self.environment in GUARDED_ENVIRONMENTS

    @property
    def simulated_enclaves_allowed(self) -> bool:
        return self.environment == DEVELOPMENT


def settings_of(configuration: Configuration) -> CoreSettings:
    """The settings of a configuration; ConfigurationError names the key and what to do."""
    settings = CoreSettings(
        att_token_enc_key=needed_secret(configuration, "att_token_enc_key"),
        att_token_enc_salt=needed_secret(configuration, "att_token_enc_salt"),
        metadata_paths={store: configuration.text(f"{store}_metadata_path") or "" for store in STORES},
        att_token_lifetime_seconds=positive(configuration, "att_token_lifetime_seconds"),
        storage_mock=configuration.boolean("storage_mock"),
        storage_mock_root=path_of(configuration, "storage_mock_root"),
        core_s3_bucket=configuration.text("core_s3_bucket"),
        bucket_options=bucket_options(configuration),
        pre_signed_url_expiry=positive(configuration, "pre_signed_url_expiry"),
        provide_private_site_data=configuration.boolean("provide_private_site_data"),
        private_operator_cstg=configuration.boolean("private_operator_cstg"),
        operator_config_path=configuration.text("operator_config_path") or "",
        enforce_jwt=configuration.boolean("enforceJwt"),
        jwt_signing_key_file=path_of(configuration, "jwt_signing_key_file"),
        aws_kms_jwt_signing_key_id=configuration.text("aws_kms_jwt_signing_key_id") or None,
        aws_kms_jwt_signing_public_keys=configuration.text("aws_kms_jwt_signing_public_keys") or "",
        core_public_url=url_of(configuration, "core_public_url"),
        optout_url=url_of(configuration, "optout_url"),
        enable_test_endpoints=configuration.boolean("enable_test_endpoints"),
        pod_termination_check_interval=positive(configuration, "pod_termination_check_interval"),
        port_offset=configuration.integer(PORT_OFFSET),
        environment=environment_of(configuration, ENVIRONMENTS),
        http_host=configuration.text("http_host") or "",
        http_loop=configuration.text("http_loop"),
        attestation_collateral_url=url_of(configuration, "attestation_collateral_url") or INTEL_PCS,
        attestation_collateral_dir=path_of(configuration, "attestation_collateral_dir"),
        attestation_policy=configuration.get("attestation_policy"),
        attestation_min_report_data_version=positive(configuration, "attestation_min_report_data_version"),
        attestation_min_svn=positive(configuration, "attestation_min_svn"),
        dangerous_attestation_root=path_of(configuration, "dangerous_attestation_root"),
    )
    check_consistency(settings)
    return settings


def check_consistency(settings: CoreSettings) -> None:
    """Values that do not fit one another, and those that production refuses; ConfigurationError."""
    if settings.storage_mock and settings.storage_mock_root is None:
        raise ConfigurationError(
            "storage_mock needs a folder with stores", next_step="set storage_mock_root to that folder"
        )
    if not settings.storage_mock and settings.core_s3_bucket is None:
        raise ConfigurationError(
            "no place for the store files is configured",
            next_step="set core_s3_bucket, for example to file:///var/lib/uid2/stores",
        )
    if settings.attestation_min_report_data_version not in (1, 2):
        raise ConfigurationError(
            "configuration key attestation_min_report_data_version must be 1 or 2",
            next_step="correct attestation_min_report_data_version",
        )
    if (settings.jwt_signing_key_file or settings.enforce_jwt) and settings.core_public_url is None:
        raise ConfigurationError(
            "JWTs name Core by its public URL and core_public_url is not set", next_step="set core_public_url"
        )
    if settings.dangerous_attestation_root is not None and settings.environment != DEVELOPMENT:
        raise ConfigurationError(
            "dangerous_attestation_root replaces Intel's root certificate and counts only in development",
            next_step='remove it, or set "environment": "development" on a machine without real data',
        )
    if settings.guarded:
        _check_production(settings)


def _check_production(settings: CoreSettings) -> None:
    for name in ("core_public_url", "optout_url", "attestation_collateral_url"):
        url = getattr(settings, name)
        if url is not None and urlsplit(url).scheme != "https":
            raise ConfigurationError(
                f"configuration key {name} must begin with https:// in the environment {settings.environment}",
                next_step=f"give {name} an https address",
            )
    if settings.enable_test_endpoints:
        raise ConfigurationError(
            "enable_test_endpoints hands out attestation tokens without attestation and the environment is "
            f"{settings.environment}",
            next_step="remove enable_test_endpoints",
        )
