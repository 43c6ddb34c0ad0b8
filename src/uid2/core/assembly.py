"""From settings to what the handlers need: the source of stores, addresses, signer, verifiers."""

import logging
from hashlib import pbkdf2_hmac
from typing import Final

from uid2.core.context import CoreContext
from uid2.core.nonces import NonceStore
from uid2.core.own_data import OwnData
from uid2.core.settings import CoreSettings
from uid2.core.signer import KeyFileSigner
from uid2.core.verifiers.interface import Verifiers
from uid2.core.verifiers.selection import attestation_verifiers
from uid2.protocol.attestation_token import ITERATIONS, derive_token_key
from uid2.protocol.ids import EpochSeconds
from uid2.service.clock import Clock, Entropy
from uid2.service.health import Health
from uid2.service.jwt import JwtVerifier, parse_public_keys
from uid2.service.metrics import Metrics
from uid2.service.signed_urls import CloudUrls, FileLinks, UrlSigner
from uid2.stores.refresher import StoreStatus
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.mock import MockSource
from uid2.stores.sources.object_store import open_object_source

FILE_SCHEME: Final = "file://"

_log = logging.getLogger(__name__)


def store_source(settings: CoreSettings) -> BlobSource:
    """Where the store files are; ConfigurationError when the bucket cannot be opened."""
    if settings.storage_mock:
        assert settings.storage_mock_root is not None, "checked with the settings"
        return MockSource(settings.storage_mock_root)
    assert settings.core_s3_bucket is not None, "checked with the settings"
    return open_object_source(settings.core_s3_bucket, settings.bucket_options)


def url_signer(settings: CoreSettings, source: BlobSource, clock: Clock) -> UrlSigner:
    """Who signs addresses: the cloud, or Core for files on this machine."""
    lifetime = settings.pre_signed_url_expiry
    bucket = settings.core_s3_bucket or ""
    if not settings.storage_mock and not bucket.startswith(FILE_SCHEME):
        return CloudUrls(bucket, settings.bucket_options, lifetime)
    # Several instances on one machine sign alike: the key comes from what they share.
    salt = b"file links:" + settings.att_token_enc_salt.reveal()
    key = pbkdf2_hmac("sha256", settings.att_token_enc_key.reveal(), salt, ITERATIONS)
    return FileLinks(key, source, lifetime, lambda: EpochSeconds(clock.now_ms() // 1000))


def core_context(
    settings: CoreSettings,
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    health: Health,
    verifiers: Verifiers | None = None,
) -> CoreContext:
    """Everything but the first load. ConfigurationError names the key; `verifiers` replaces those of the settings."""
    source = store_source(settings)
    signer = None if settings.jwt_signing_key_file is None else KeyFileSigner(settings.jwt_signing_key_file)
    if signer is None and settings.aws_kms_jwt_signing_key_id:
        _log.warning(
            "aws_kms_jwt_signing_key_id names a key that this release cannot use: no JWTs are issued; "
            "set jwt_signing_key_file to issue them"
        )
    public_keys = parse_public_keys(settings.aws_kms_jwt_signing_public_keys)
    own = OwnData(settings, source, clock, health, lambda status: _count_refresh(metrics, status))
    nonces = NonceStore(clock.monotonic, entropy.bytes)
    metrics.sample("uid2_core_nonces", lambda: float(len(nonces)))
    return CoreContext(
        settings=settings,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        source=source,
        urls=url_signer(settings, source, clock),
        own=own,
        token_key=derive_token_key(
            settings.att_token_enc_key.reveal().decode(), settings.att_token_enc_salt.reveal().decode()
        ),
        jwt_verifier=JwtVerifier(public_keys if signer is None else (signer.public_key, *public_keys)),
        signer=signer,
        verifiers=attestation_verifiers(settings, own) if verifiers is None else verifiers,
        nonces=nonces,
    )


def _count_refresh(metrics: Metrics, status: StoreStatus) -> None:
    store = status.component
    metrics.gauge("uid2_config_store_consecutive_refresh_failures", int(status.failing), store=store)
    if status.failing:
        metrics.count("uid2_config_store_refresh_failures_total", store=store)
        return
    metrics.count("uid2_config_store_refreshed_total", store=store)
    metrics.gauge("uid2_config_store_version", status.version, store=store)
    metrics.gauge("uid2_config_store_entry_count", status.entries, store=store)
    if status.refreshed == 1:
        metrics.observe("uid2_store_refresh_duration_seconds", (status.first_load_ms or 0) / 1000, store_name=store)
