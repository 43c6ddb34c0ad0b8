"""From settings to what the handlers need: bucket, queue, tail, addresses, operator keys, producer."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Final

import httpx

from uid2.corelink.link import CoreLink
from uid2.optout.bucket import FILE_SCHEME, Bucket, FolderBucket, RenamingBucket, open_bucket
from uid2.optout.context import OptOutContext
from uid2.optout.core_stores import CoreStores, core_stores
from uid2.optout.file_list import FileList
from uid2.optout.intake import open_intake
from uid2.optout.manual_override import ManualOverride
from uid2.optout.operator_keys import OperatorKeys
from uid2.optout.partitions import PartitionProducer, PartitionRules
from uid2.optout.partner_calls import PartnerCalls
from uid2.optout.partner_list import PartnerFile, PartnerList
from uid2.optout.partner_sender import Forwarding, PartnerSender
from uid2.optout.partner_state import PartnerStates
from uid2.optout.producer import DeltaProducer
from uid2.optout.production import DeltaJob, ProductionRules
from uid2.optout.settings import DEFAULT_PARTNERS, OptOutSettings
from uid2.optout.traffic_calculator import TrafficCalculator
from uid2.protocol.attestation_token import ITERATIONS, derive_token_key
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.partners import Partner
from uid2.service.clock import Clock, Entropy
from uid2.service.health import Health
from uid2.service.jwt import JwtVerifier, parse_public_keys
from uid2.service.metrics import Metrics
from uid2.service.signed_urls import CloudUrls, FileLinks, UrlSigner
from uid2.stores.kinds import OPERATORS, PARTNERS
from uid2.stores.refresher import Loader, StoreStatus
from uid2.stores.sources.renamed import outside

LINK_SECONDS: Final = 3600

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _RenamedUrls:
    """Addresses in buckets of old deployments."""

    urls: UrlSigner

    def sign(self, path: str, base_url: str) -> str:
        return self.urls.sign(outside(path), base_url)


def optout_bucket(settings: OptOutSettings) -> Bucket:
    """Where the opt-out files are."""
    if settings.storage_mock:
        return FolderBucket(settings.optout_data_dir / "cloud_mock")
    bucket = open_bucket(settings.optout_s3_bucket or "", settings.bucket_options)
    return RenamingBucket(bucket) if settings.optout_s3_path_compat else bucket


def url_signer(settings: OptOutSettings, bucket: Bucket, clock: Clock) -> UrlSigner:
    """Who signs addresses: the cloud, or this service for files on this machine."""
    name = settings.optout_s3_bucket or ""
    if not settings.storage_mock and not name.startswith(FILE_SCHEME):
        urls = CloudUrls(name, settings.bucket_options, LINK_SECONDS)
        return _RenamedUrls(urls) if settings.optout_s3_path_compat else urls
    # Several instances on one machine sign alike: the key comes from what they share.
    salt = b"opt-out file links:" + settings.att_token_enc_salt.reveal()
    key = pbkdf2_hmac("sha256", settings.att_token_enc_key.reveal(), salt, ITERATIONS)
    return FileLinks(key, bucket, LINK_SECONDS, lambda: EpochSeconds(clock.now_ms() // 1000))


def optout_context(
    settings: OptOutSettings,
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    health: Health,
    core: CoreLink | None = None,
    partner_transport: httpx.AsyncBaseTransport | None = None,
) -> OptOutContext:
    """Everything but the first loads. Without `core` the operator keys are those of the folder of the settings."""
    bucket = optout_bucket(settings)
    stores = core_stores(settings, core)
    producer: DeltaProducer
    files = FileList(
        bucket,
        settings.optout_s3_folder,
        clock.now_ms,
        synthetic_count=settings.synthetic_count,
        on_listed=_listing_observer(metrics, health),
    )
    intake = open_intake(
        settings, bucket, files, clock, entropy, lambda message: producer.traffic_filter.denies(message)
    )
    job = DeltaJob(
        intake.queue,
        intake.claims,
        bucket,
        ProductionRules(
            folder=settings.optout_s3_folder,
            replica=settings.replica_id,
            window_seconds=settings.optout_sqs_delta_window_seconds,
            most_messages=settings.optout_max_messages_per_file,
            timeout_seconds=settings.optout_delta_job_timeout_seconds,
            dropped_bucket=None
            if settings.optout_s3_bucket_dropped_requests is None
            else open_bucket(settings.optout_s3_bucket_dropped_requests, settings.bucket_options),
        ),
        ManualOverride(bucket, settings.manual_override_s3_path),
        TrafficCalculator(bucket),
        clock,
        entropy,
        metrics,
    )
    producer = DeltaProducer(
        job, settings.traffic_filter_config_path, settings.traffic_calc_config_path, clock, files.refresh
    )
    partners = partner_list(settings, stores, clock, metrics, health)
    loader = stores.loader(OPERATORS, clock.now_ms)
    return OptOutContext(
        settings=settings,
        clock=clock,
        metrics=metrics,
        bucket=bucket,
        urls=url_signer(settings, bucket, clock),
        files=files,
        queue=intake.queue,
        tail=intake.tail,
        shared=intake.shared,
        keys=OperatorKeys(loader, clock, health, lambda status: count_refresh(metrics, status)),
        producer=producer,
        partitions=partition_producer(settings, bucket, files, clock, entropy, metrics),
        partners=partners,
        forwarding=None
        if partners is None
        else forwarding_of(settings, partners, bucket, files, clock, metrics, health, partner_transport),
        token_key=derive_token_key(
            settings.att_token_enc_key.reveal().decode(), settings.att_token_enc_salt.reveal().decode()
        ),
        jwt_verifier=JwtVerifier(parse_public_keys(settings.aws_kms_jwt_signing_public_keys)),
    )


def partition_producer(
    settings: OptOutSettings, bucket: Bucket, files: FileList, clock: Clock, entropy: Entropy, metrics: Metrics
) -> PartitionProducer | None:
    """None for a replica without a number, and where this service only looks on."""
    if settings.optout_observe_only or settings.replica_id < 0:
        return None
    rules = PartitionRules(
        settings.optout_s3_folder,
        settings.replica_id,
        settings.optout_producer_max_replicas,
        settings.optout_delta_rotate_interval,
    )
    return PartitionProducer(
        rules, bucket, files, settings.optout_queue_dir / "partition.lock", clock, entropy, metrics
    )


def partner_list(
    settings: OptOutSettings, stores: CoreStores, clock: Clock, metrics: Metrics, health: Health
) -> PartnerList | None:
    """None where another replica sends, where this service only looks on, and where no list is configured."""
    if settings.optout_observe_only or settings.replica_id != settings.optout_sender_replica_id:
        return None
    if settings.partners_metadata_path is not None:
        loader: Loader = stores.loader(PARTNERS, clock.now_ms)
    elif settings.partners_config_path:
        path = Path(settings.partners_config_path)
        if settings.partners_config_path == DEFAULT_PARTNERS and not path.exists():
            return None
        loader = PartnerFile(path)
    else:
        return None
    return PartnerList(loader, clock, health, lambda status: count_refresh(metrics, status))


def forwarding_of(
    settings: OptOutSettings,
    partners: PartnerList,
    bucket: Bucket,
    files: FileList,
    clock: Clock,
    metrics: Metrics,
    health: Health,
    transport: httpx.AsyncBaseTransport | None,
) -> Forwarding:
    states = PartnerStates(bucket, settings.optout_s3_folder, f"{settings.optout_data_dir}/consumer/delta/")

    def sender(partner: Partner, client: httpx.AsyncClient) -> PartnerSender:
        calls = PartnerCalls(partner, client)
        return PartnerSender(calls, partner, bucket, states, files, settings.id_environment, clock, metrics)

    return Forwarding(partners, sender, settings.optout_queue_dir / "send.lock", health, transport)


def count_refresh(metrics: Metrics, status: StoreStatus) -> None:
    store = status.component
    metrics.gauge("uid2_config_store_consecutive_refresh_failures", int(status.failing), store=store)
    if status.failing:
        metrics.count("uid2_config_store_refresh_failures_total", store=store)
        return
    metrics.count("uid2_config_store_refreshed_total", store=store)
    metrics.gauge("uid2_config_store_version", status.version, store=store)
    metrics.gauge("uid2_config_store_entry_count", status.entries, store=store)
    if status.last_success is not None:
        metrics.gauge("uid2_optout_store_refreshed", status.last_success // 1000, store=store)


def _listing_observer(metrics: Metrics, health: Health) -> Callable[[bool], None]:
    failures = 0
    health.component("cloudsync-optout").starting()

    def listed(good: bool) -> None:
        nonlocal failures
        failures = 0 if good else failures + 1
        metrics.count("uid2_cloud_refreshed_total" if good else "uid2_cloud_refresh_failures_total", store="optout")
        metrics.gauge("uid2_cloud_downloaded_consecutive_refresh_failures", failures, store="optout")
        if good:
            health.component("cloudsync-optout").recover()

    return listed
