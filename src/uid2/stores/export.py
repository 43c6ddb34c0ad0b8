"""Checked store contents in a folder, for the worker processes of one operator.

    DIR/stores.json                    [{"store", "version", "metadata", "parts": [file names]}]
    DIR/<store>.<version>.metadata     the metadata document
    DIR/<store>.<version>.<n>          the n-th part: content file or packed salt table

Salt tables are mapped into memory, by the process that writes them too, so that all share one copy. The folder holds
secrets: mode 0700, on a tmpfs. Files are written before the list that names them, and the list is replaced in one step.
"""

import contextlib
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final, final

import msgspec

from uid2.protocol.errors import ConfigurationError, StoreFormatError
from uid2.protocol.runtime_config import RuntimeConfig
from uid2.stores.kinds import SALTS
from uid2.stores.loading import LoadedStore, StoreContent, load_content
from uid2.stores.snapshot import OperatorSnapshot

LIST_FILE: Final = "stores.json"
# A reader that finds a file gone reads the list again: the writer has moved on meanwhile.
ATTEMPTS: Final = 10


class ExportedStore(msgspec.Struct, frozen=True):
    store: str
    version: int
    metadata: str
    parts: list[str]

    @property
    def files(self) -> tuple[str, ...]:
        return (self.metadata, *self.parts)


@final
class StoreExport:
    """The one writer of a folder. Safe to call from any thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = Lock()
        self._listed: dict[str, ExportedStore] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, store: LoadedStore) -> LoadedStore:
        """The same store, its salt tables read from the folder from now on. ConfigurationError: no room for it."""
        content = store.content
        stem = f"{content.store}.{content.version}"
        entry = ExportedStore(
            content.store, content.version, f"{stem}.metadata", [f"{stem}.{n}" for n in range(len(content.parts))]
        )
        with self._lock:
            try:
                for name, data in zip(entry.files, (content.metadata, *content.parts), strict=True):
                    if not (self.directory / name).exists():
                        _write(self.directory / name, data)
                listed = {**self._listed, content.store: entry}
                _write(self.directory / LIST_FILE, msgspec.json.encode(list(listed.values())))
            except OSError as error:
                raise ConfigurationError(
                    f"the store {content.store} cannot be shared with the workers in {self.directory}: "
                    f"{error.strerror}",
                    next_step="enlarge that file system (of a container: --shm-size), or set worker_processes to 1",
                ) from None
            self._listed = listed
        if content.store != SALTS.name:
            return store
        return load_content(replace(content, parts=self._tables(entry)))

    def tidy(self) -> None:
        """Removes what the list does not name any more; who still maps a removed table keeps it."""
        with self._lock:
            named = {LIST_FILE} | {name for entry in self._listed.values() for name in entry.files}
            for file in self.directory.iterdir():
                if file.name not in named:
                    file.unlink(missing_ok=True)

    def _tables(self, entry: ExportedStore) -> tuple[memoryview, ...]:
        return tuple(_mapped(self.directory / name) for name in entry.parts)


def read_export(directory: Path, held: Mapping[str, int] | None = None) -> dict[str, LoadedStore]:
    """The stores of a folder, checked again, but those whose version is `held`.

    StoreFormatError: the list is broken, or names files that are not there.
    """
    for _ in range(ATTEMPTS):
        try:
            return _read(directory, held or {})
        except FileNotFoundError:
            continue
    raise StoreFormatError("the list names files that are not there", file=LIST_FILE, next_step="start again")


def snapshot_from_export(directory: Path, runtime_config: RuntimeConfig | None = None) -> OperatorSnapshot:
    """The snapshot of a folder; `runtime_config` counts when the folder holds none."""
    stores = read_export(directory)
    records = {name: store.records for name, store in stores.items()}
    if runtime_config is not None:
        records.setdefault("runtime_config", runtime_config)
    return OperatorSnapshot.assemble(records, versions_of(stores.values()))


def versions_of(stores: Iterable[LoadedStore]) -> dict[str, int]:
    return {store.content.store: store.content.version for store in stores}


def _read(directory: Path, held: Mapping[str, int]) -> dict[str, LoadedStore]:
    try:
        listed = msgspec.json.decode((directory / LIST_FILE).read_bytes(), type=list[ExportedStore])
    except msgspec.MsgspecError:
        raise StoreFormatError("not a list of stores", file=LIST_FILE, next_step="start the operator again") from None
    loaded = {}
    for entry in listed:
        if held.get(entry.store) == entry.version:
            continue
        parts = tuple(
            _mapped(directory / name) if entry.store == SALTS.name else (directory / name).read_bytes()
            for name in entry.parts
        )
        content = StoreContent(entry.store, entry.version, (directory / entry.metadata).read_bytes(), parts)
        loaded[entry.store] = load_content(content)
    return loaded


def _write(path: Path, data: bytes | memoryview) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
