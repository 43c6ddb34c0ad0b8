"""One change of a universe while it is being made: what was read, and what shall take its place.

Content files get a new name with every version, so that a reader finds either the old or the new one:

    <store>/<scope><store>.<version>-<8 hex digits>.json
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

from uid2.admin.folder import ABSENT, Blob, Folder
from uid2.admin.records import AdminStore
from uid2.admin.settings import UNIVERSE, UniverseSettings, parse_settings
from uid2.protocol.errors import ConfigurationError, StoreFormatError
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.protocol.metadata import StoreMetadata, encode_metadata, location_member, parse_metadata

R = TypeVar("R")
Draw = Callable[[int], bytes]
_OWN_MEMBERS: Final = ("version", "generated")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A metadata document or another single object, and what people are told about it."""

    path: str
    data: bytes = field(repr=False)
    what: str
    version: int | None = None
    entries: tuple[int, int] | None = None
    previous_version: int | None = None


@final
class Change:
    """Reads are remembered with their tags; writes are collected until the change is decided."""

    def __init__(self, folder: Folder, now_ms: EpochMillis, draw: Draw) -> None:
        self._folder = folder
        self._read: dict[str, Blob | None] = {}
        self._records: dict[str, tuple[Any, ...]] = {}
        self.now_ms = now_ms
        self.draw = draw
        self.contents: dict[str, bytes] = {}
        self.replacements: dict[str, Replacement] = {}
        self.removals: list[str] = []

    @property
    def now(self) -> EpochSeconds:
        return EpochSeconds(self.now_ms // 1000)

    @property
    def settings(self) -> UniverseSettings:
        """ConfigurationError when the folder holds no universe."""
        document = self.document(UNIVERSE)
        if document is None:
            raise ConfigurationError(
                f"there is no universe in {self._folder.name}", next_step="make one: uid2 admin init --store URL"
            )
        return parse_settings(document)

    def records(self, store: AdminStore[R], scope: str = "") -> tuple[R, ...]:
        """The records as this change sees them; none when the store does not exist yet. StoreFormatError."""
        path = store.metadata_path(scope)
        if path not in self._records:
            metadata = self.metadata(store, scope)
            content = None if metadata is None else self.content(metadata.location)
            self._records[path] = () if content is None else _named(store.parse, content, path)
        return self._records[path]

    def metadata(self, store: AdminStore[Any], scope: str = "") -> StoreMetadata | None:
        """The metadata as this change sees it."""
        path = store.metadata_path(scope)
        document = self.document(path)
        return None if document is None else _named(lambda data: parse_metadata(data, store.name), document, path)

    def replace(
        self,
        store: AdminStore[R],
        records: Iterable[R],
        scope: str = "",
        *,
        version: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Put `records` in the place of those there are; nothing happens when they are the same.

        What is written is parsed first: a record that would not be read back as it was meant refuses the change.
        """
        wanted = tuple(records)
        before = self.records(store, scope)
        old = self.metadata(store, scope)
        if old is not None and wanted == before and not _differs(old, extra) and version in (None, old.version):
            return
        data = store.encode(wanted)
        if store.parse(data) != wanted:
            raise StoreFormatError(f"the records of {store.name} do not survive being written", file=store.name)
        self.replace_content(store.name, scope, data, version=version, extra=extra, entries=(len(before), len(wanted)))
        self._records[store.metadata_path(scope)] = wanted

    def replace_content(
        self,
        name: str,
        scope: str,
        data: bytes,
        *,
        version: int | None = None,
        extra: Mapping[str, object] | None = None,
        entries: tuple[int, int] | None = None,
    ) -> None:
        """Put `data` as the content of a store, under new metadata. `extra` members come on top of those there are."""
        path = f"{name}/{scope}metadata.json"
        document = self.document(path)
        old = None if document is None else parse_metadata(document, name)
        number = self.next_version(old.version if old else None) if version is None else version
        location = f"{name}/{scope}{name}.{number}-{self.draw(4).hex()}.json"
        staged = self.replacements.get(path)
        if staged is not None and old is not None:
            # Changed twice in one change: the first content was never written.
            self.contents.pop(old.location, None)
        kept = (
            {} if old is None else {k: v for k, v in old.raw.items() if k not in (*_OWN_MEMBERS, location_member(name))}
        )
        metadata = encode_metadata(name, number, int(self.now), location, {**kept, **(extra or {})})
        before = staged.entries[0] if staged is not None and staged.entries else None
        counts = None if entries is None else (entries[0] if before is None else before, entries[1])
        previous = staged.previous_version if staged is not None else (old.version if old else None)
        self.contents[location] = data
        self.replacements[path] = Replacement(path, metadata, f"{name}/{scope}".rstrip("/"), number, counts, previous)

    def document(self, path: str) -> bytes | None:
        """A single object as this change sees it."""
        staged = self.replacements.get(path)
        if staged is not None:
            return staged.data
        if path not in self._read:
            self._read[path] = self._folder.read(path)
        blob = self._read[path]
        return None if blob is None else blob.data

    def put_document(self, path: str, data: bytes, what: str, version: int | None = None) -> None:
        """Replace a single object of UTF-8 text, together with everything else of the change."""
        if self.document(path) != data:
            self.replacements[path] = Replacement(path, data, what, version)

    def content(self, path: str) -> bytes | None:
        """A content file; never changed once it is written."""
        if path in self.contents:
            return self.contents[path]
        blob = self._folder.read(path)
        return None if blob is None else blob.data

    def put_content(self, path: str, data: bytes) -> None:
        """A content file under a name that nothing has yet; it is written before the change is decided."""
        self.contents[path] = data

    def free_name(self, path: str) -> str:
        """`path`, or with a random ending where a writer that was killed has left something."""
        return path if self.content(path) is None else f"{path}-{self.draw(4).hex()}"

    def remove_content(self, path: str) -> None:
        """A content file that no reader can be about to read; it goes after the change is made."""
        self.removals.append(path)

    def list(self, prefix: str) -> "list[str]":
        """Paths of what is in the folder, below `prefix`."""
        return self._folder.list(prefix)

    def next_version(self, old: int | None) -> int:
        """Epoch milliseconds, and more than `old`."""
        return int(self.now_ms) if old is None else max(int(self.now_ms), old + 1)

    def expected_tag(self, path: str) -> str:
        if path not in self._read:
            self._read[path] = self._folder.read(path)
        blob = self._read[path]
        return ABSENT if blob is None else blob.tag


def _differs(metadata: StoreMetadata, extra: Mapping[str, object] | None) -> bool:
    return any(metadata.raw.get(name) != value for name, value in (extra or {}).items())


def _named(parse: Callable[[bytes], R], data: bytes, path: str) -> R:
    try:
        return parse(data)
    except StoreFormatError as error:
        raise StoreFormatError(
            f"{path}: {error.message}", next_step=error.next_step or "restore the file from a copy of the store"
        ) from None
