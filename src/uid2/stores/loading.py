"""From the files of one store to validated records.

`StoreLoader.fetch` reads metadata and content and checks all of it; `records_of` makes the records of a fetched
content again, in this or another process. Nothing is half loaded: one bad file refuses the whole store.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.salt_table import SaltTable, count_salts
from uid2.protocol.cloud_keys import CloudKey, holds_cloud_keys
from uid2.protocol.encrypted_file import FileDecryptionError, open_store_file
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.metadata import parse_metadata, parse_version
from uid2.protocol.runtime_config import RuntimeConfig, parse_runtime_config_document
from uid2.protocol.salts import (
    SaltMetadata,
    SaltSnapshotEntry,
    check_salt_count,
    encode_salt_metadata,
    parse_salt_metadata,
)
from uid2.stores.kinds import ALL_KINDS, CLOUD_KEYS, RUNTIME_CONFIG, SALTS, StoreKind
from uid2.stores.snapshot import SaltSnapshot, SaltSnapshots
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.presigned import shown_address

LARGEST_METADATA: Final = 16 << 20
T = TypeVar("T")
Buffer = bytes | memoryview
DECRYPTED: Final = "SUCCESS"
OnDecryption = Callable[[int, str, str], None]
"""Key id, store and how it went."""


@dataclass(frozen=True, slots=True)
class StoreContent:
    """A store's checked files in plain text.

    `metadata` is the document with every default filled in. `parts` holds the content file; for salts one packed
    table per snapshot, ascending by `effective`; for the runtime configuration, which is inline, nothing.
    """

    store: str
    version: int
    metadata: bytes = field(repr=False)
    parts: tuple[Buffer, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoadedStore:
    """`records`: a tuple of records, `SaltSnapshots` or `RuntimeConfig`. `entries` counts them (salts: rows)."""

    content: StoreContent
    records: Any = field(repr=False)
    entries: int


@final
class StoreLoader:
    """Loads one store from `metadata_path` in `source`; `content`, by default the same, holds the locations."""

    def __init__(
        self,
        kind: StoreKind,
        source: BlobSource,
        metadata_path: str,
        now: Callable[[], EpochMillis],
        *,
        content: BlobSource | None = None,
        encrypted: bool = False,
        engine: Engine | None = None,
        on_decryption: OnDecryption = lambda *_: None,
    ) -> None:
        """`on_decryption` is told of every encrypted file that was opened or did not open."""
        self._engine = engine or best_engine()
        self.kind = kind
        self._source = source
        self._content = content or source
        self._path = metadata_path
        self._now = now
        self._encrypted = encrypted and kind.encryptable
        self._on_decryption = on_decryption

    def fetch(self, loaded_version: int | None, cloud_keys: Mapping[int, CloudKey]) -> LoadedStore | None:
        """The store, None when its version is not above `loaded_version`.

        StoreUnavailableError: a file cannot be fetched. StoreFormatError: names file, record and field.
        """
        data = self._source.read(self._path, LARGEST_METADATA)
        try:
            version = parse_version(data) if self.kind is not CLOUD_KEYS else self._now() // 1000
            # Encryption keys have no version that grows: they are read every time.
            if self.kind is not CLOUD_KEYS and loaded_version is not None and version <= loaded_version:
                return None
            if self.kind is CLOUD_KEYS and holds_cloud_keys(data):
                # Core answers with the keys themselves rather than with their location.
                content = StoreContent(self.kind.name, version, b"", (data,))
            elif self.kind is RUNTIME_CONFIG:
                content = StoreContent(self.kind.name, version, data, ())
            elif self.kind is SALTS:
                return self._fetch_salts(data, cloud_keys)
            else:
                metadata = parse_metadata(data, self.kind.name)
                content = StoreContent(self.kind.name, version, data, (self._plain(metadata.location, cloud_keys),))
                return _in_file(metadata.location, lambda: load_content(content))
            return load_content(content)
        except StoreFormatError as error:
            raise error if error.file else error.in_file(self._path) from None

    def _fetch_salts(self, data: bytes, cloud_keys: Mapping[int, CloudKey]) -> LoadedStore:
        metadata = parse_salt_metadata(data, self._now())
        parts: list[Buffer] = []
        for entry in metadata.salts:
            data = self._plain(entry.location, cloud_keys)

            def pack(data: bytes = data, entry: SaltSnapshotEntry = entry) -> bytes:
                check_salt_count(count_salts(data), entry)
                return self._engine.pack_salt_file(data, metadata)

            parts.append(_in_file(entry.location, pack))
        return load_content(StoreContent(SALTS.name, metadata.version, encode_salt_metadata(metadata), tuple(parts)))

    def _plain(self, location: str, cloud_keys: Mapping[int, CloudKey]) -> bytes:
        data = self._content.read(location)
        if not self._encrypted:
            return data
        return _in_file(location, lambda: self._opened(data, cloud_keys))

    def _opened(self, data: bytes, cloud_keys: Mapping[int, CloudKey]) -> bytes:
        store = self.kind.name
        try:
            key_id, plaintext = open_store_file(data, cloud_keys, store)
        except FileDecryptionError as error:
            self._on_decryption(error.key_id, store, error.status)
            raise
        self._on_decryption(key_id, store, DECRYPTED)
        return plaintext


def load_content(content: StoreContent) -> LoadedStore:
    """The records of checked files."""
    if content.store == SALTS.name:
        # Every default is already written out, so no clock is needed.
        return _loaded_salts(content, parse_salt_metadata(content.metadata, EpochMillis(0)))
    if content.store == RUNTIME_CONFIG.name:
        config: RuntimeConfig = parse_runtime_config_document(content.metadata)[1]
        return LoadedStore(content, config, 1)
    parse = ALL_KINDS[content.store].parse
    assert parse is not None
    records = parse(bytes(content.parts[0]))
    return LoadedStore(content, records, len(records))


def _loaded_salts(content: StoreContent, metadata: SaltMetadata) -> LoadedStore:
    snapshots = SaltSnapshots(
        metadata,
        tuple(
            SaltSnapshot(entry.effective, entry.expires, SaltTable(part))
            for entry, part in zip(metadata.salts, content.parts, strict=True)
        ),
    )
    return LoadedStore(content, snapshots, sum(snapshot.table.size for snapshot in snapshots.snapshots))


def _in_file(location: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except StoreFormatError as error:
        # A signed address is a credential: its query is not for logs.
        file = shown_address(location) if "://" in location else location
        raise error if error.file else error.in_file(file) from None
