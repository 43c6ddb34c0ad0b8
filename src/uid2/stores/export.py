"""Checked store contents in a folder, for the worker processes of one operator.

    DIR/stores.json                    [{"store", "version", "metadata", "parts": [file names]}]
    DIR/<store>.<version>.metadata     the metadata document
    DIR/<store>.<version>.<n>          the n-th part: content file or packed salt table

Salt tables are mapped into memory, so that workers share them. The folder holds secrets: mode 0700, on a tmpfs.
Files are written before the list that names them, and the list is replaced in one step.
"""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.runtime_config import RuntimeConfig
from uid2.stores.kinds import SALTS
from uid2.stores.loading import LoadedStore, StoreContent, load_content
from uid2.stores.snapshot import OperatorSnapshot

LIST_FILE: Final = "stores.json"


class ExportedStore(msgspec.Struct, frozen=True):
    store: str
    version: int
    metadata: str
    parts: list[str]


def export_contents(contents: Iterable[StoreContent], directory: Path) -> None:
    """Write what is not there yet, then the list, then remove files that nothing names any more.

    A worker that still maps a removed table keeps it.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    listed = [_export(content, directory) for content in contents]
    _write(directory / LIST_FILE, msgspec.json.encode(listed))
    named = {LIST_FILE} | {name for entry in listed for name in (entry.metadata, *entry.parts)}
    for file in directory.iterdir():
        if file.name not in named:
            file.unlink(missing_ok=True)


def read_export(directory: Path) -> dict[str, LoadedStore]:
    """The stores of a folder, checked again; StoreFormatError when the list itself is broken."""
    try:
        listed = msgspec.json.decode((directory / LIST_FILE).read_bytes(), type=list[ExportedStore])
    except msgspec.MsgspecError:
        raise StoreFormatError("not a list of stores", file=LIST_FILE, next_step="start the operator again") from None
    loaded = {}
    for entry in listed:
        parts = tuple(
            _mapped(directory / name) if entry.store == SALTS.name else (directory / name).read_bytes()
            for name in entry.parts
        )
        content = StoreContent(entry.store, entry.version, (directory / entry.metadata).read_bytes(), parts)
        loaded[entry.store] = load_content(content)
    return loaded


def snapshot_from_export(directory: Path, runtime_config: RuntimeConfig | None = None) -> OperatorSnapshot:
    """The snapshot of a folder; `runtime_config` counts when the folder holds none."""
    stores = read_export(directory)
    records = {name: store.records for name, store in stores.items()}
    if runtime_config is not None:
        records.setdefault("runtime_config", runtime_config)
    return OperatorSnapshot.assemble(records, {name: store.content.version for name, store in stores.items()})


def _export(content: StoreContent, directory: Path) -> ExportedStore:
    stem = f"{content.store}.{content.version}"
    entry = ExportedStore(
        content.store, content.version, f"{stem}.metadata", [f"{stem}.{n}" for n in range(len(content.parts))]
    )
    for name, data in zip((entry.metadata, *entry.parts), (content.metadata, *content.parts), strict=True):
        if not (directory / name).exists():
            _write(directory / name, data)
    return entry


def _write(path: Path, data: bytes | memoryview) -> None:
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
