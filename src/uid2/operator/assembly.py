"""From settings to stores and opt-outs: where the files come from, and which stores this operator needs."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from uid2.bulk.engine import engine_named
from uid2.bulk.tables import OptOutView
from uid2.operator.core_link import OperatorCoreLink
from uid2.operator.optout_data import OptOutData
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.operator.optout_service import OptOutService
from uid2.operator.optout_source import OptOutServiceFiles
from uid2.operator.settings import OperatorSettings
from uid2.protocol.errors import ConfigurationError, StoreFormatError
from uid2.protocol.ids import Environment, EpochMillis
from uid2.protocol.optout_log import OptOutEntry
from uid2.protocol.runtime_config import RuntimeConfig, parse_runtime_config
from uid2.service.clock import Clock
from uid2.stores.kinds import KINDS
from uid2.stores.loading import OnDecryption, StoreLoader
from uid2.stores.optout_files import OptOutFiles, Transfers
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.local import LocalSource
from uid2.stores.sources.mock import MockSource
from uid2.stores.sources.object_store import open_object_source
from uid2.stores.sources.renamed import RenamedSource

INDEX_FILE: Final = "optout.index"
ALWAYS: Final = ("clients", "keysets", "keyset_keys", "salts")

_log = logging.getLogger(__name__)


def needed_stores(settings: OperatorSettings) -> tuple[str, ...]:
    """The stores an operator with these settings loads (operator chapter, 13.2)."""
    optional = {
        "sites": settings.client_side_token_generate,
        "client_side_keypairs": settings.client_side_token_generate,
        "services": settings.validate_service_links,
        "service_links": settings.validate_service_links,
        "cloud_encryption_keys": settings.encrypted_files,
        "runtime_config": settings.enable_remote_config,
    }
    wanted = {*ALWAYS, *(name for name, needed in optional.items() if needed)}
    return tuple(name for name in KINDS if name in wanted)


def store_source(settings: OperatorSettings) -> BlobSource:
    """Where the store files are without Core; ConfigurationError when nothing says so."""
    if settings.storage_mock:
        if settings.storage_mock_root is None:
            raise ConfigurationError(
                "storage_mock needs a folder with stores", next_step="set storage_mock_root to that folder"
            )
        return MockSource(settings.storage_mock_root)
    if settings.core_s3_bucket is not None:
        return open_object_source(settings.core_s3_bucket, _bucket_options(settings))
    raise ConfigurationError(
        "no place for the store files is configured",
        next_step="set core_attest_url, or core_s3_bucket, or storage_mock_root and storage_mock",
    )


def store_loaders(
    settings: OperatorSettings,
    source: BlobSource,
    now: Callable[[], EpochMillis],
    on_decryption: OnDecryption = lambda *_: None,
) -> list[StoreLoader]:
    """One loader per needed store."""
    return [
        StoreLoader(
            KINDS[name],
            source,
            settings.metadata_paths[name],
            now,
            encrypted=settings.encrypted_files,
            engine=engine_named(settings.bulk_engine),
            on_decryption=on_decryption,
        )
        for name in needed_stores(settings)
    ]


def core_loaders(
    settings: OperatorSettings,
    link: OperatorCoreLink,
    now: Callable[[], EpochMillis],
    on_decryption: OnDecryption = lambda *_: None,
) -> list[StoreLoader]:
    """One loader per needed store, through Core."""
    return [
        StoreLoader(
            KINDS[name],
            link.source,
            link.addresses[name],
            now,
            content=link.content,
            encrypted=settings.encrypted_files,
            engine=engine_named(settings.bulk_engine),
            on_decryption=on_decryption,
        )
        for name in needed_stores(settings)
    ]


def local_runtime_config(settings: OperatorSettings) -> RuntimeConfig | None:
    """The runtime values of the configuration itself; None when they come from a store."""
    if settings.enable_remote_config:
        return None
    try:
        return parse_runtime_config(settings.runtime_members)
    except StoreFormatError as error:
        raise ConfigurationError(error.message, next_step="correct it, or set enable_remote_config") from None


def optout_files(
    settings: OperatorSettings,
    on_warning: Callable[[str], None],
    service: BlobSource | None = None,
    transfers: Transfers | None = None,
) -> OptOutFiles | None:
    """The opt-out files of this operator, of an opt-out service where it has one; None without a folder for them."""
    if settings.optout_data_dir is None:
        return None
    source, folder = _optout_source(settings) if service is None else (service, settings.optout_s3_folder)
    return OptOutFiles(
        settings.optout_data_dir, source=source, folder=folder, on_warning=on_warning, transfers=transfers
    )


def optout_data(
    settings: OperatorSettings,
    environment: Environment,
    service: OptOutService | None,
    taken: Iterable[OptOutEntry],
    on_change: Callable[[OptOutView], None],
    clock: Clock,
    metrics: OptOutMetrics,
) -> OptOutData:
    """The opt-outs of this operator, not loaded yet; `taken` are those of its journal."""
    folder = settings.optout_data_dir
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    listed = None if service is None or not settings.optout_metadata_path else OptOutServiceFiles(service)
    return OptOutData(
        environment,
        optout_files(settings, _log.warning, listed, metrics),
        None if folder is None else folder / INDEX_FILE,
        taken,
        on_change,
        engine_named(settings.bulk_engine),
        clock.now_ms,
        metrics,
        settings.optout_old_count_threshold_seconds,
    )


def _optout_source(settings: OperatorSettings) -> tuple[BlobSource | None, str]:
    folder = settings.optout_s3_folder
    if settings.optout_s3_bucket is not None:
        source: BlobSource = open_object_source(settings.optout_s3_bucket, _bucket_options(settings))
        return RenamedSource(source) if settings.optout_s3_path_compat else source, folder
    if folder.startswith("/"):
        # An absolute folder is taken as it is.
        return (LocalSource(Path(folder)), "") if Path(folder).is_dir() else (None, folder)
    if settings.storage_mock_root is not None and (settings.storage_mock_root / folder).is_dir():
        return LocalSource(settings.storage_mock_root), folder
    return None, folder


def _bucket_options(settings: OperatorSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"region": settings.aws_region, "endpoint": settings.aws_s3_endpoint}
    # Half a key pair counts as none: the default credentials of the platform are then used.
    if settings.aws_access_key_id and settings.aws_secret_access_key is not None:
        options["access_key_id"] = settings.aws_access_key_id
        options["secret_access_key"] = settings.aws_secret_access_key.reveal().decode()
    return options
