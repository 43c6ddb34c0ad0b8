"""The opt-out files an operator indexes (opt-out chapter, 3.5, 3.6 and 8).

    <folder>delta/YYYY-MM-DD/optout-delta-…        <folder>partition/optout-partition-…     in a source
    <data dir>/consumer/delta/optout-delta-…       <data dir>/consumer/partition/…          on disk

Indexed are all partitions and every delta that may hold what the newest partition does not. The choice errs on the
side of more files: an entry that is indexed twice does no harm, a missing one serves a person who opted out.
A failed listing is an error, never an empty list.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar, final, runtime_checkable

from uid2.protocol.errors import StoreFormatError, StoreUnavailableError, Uid2Error
from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutFileKind, OptOutFileName, check_size
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.local import is_file

DAY_SECONDS: Final = 86_400
# Deltas may arrive this many rotation intervals after their window.
GRACE_INTERVALS: Final = 3
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class OptOutFile:
    """`path` is a file on disk whose size is a multiple of 72."""

    name: OptOutFileName
    path: Path
    size: int


@runtime_checkable
class StreamingSource(Protocol):
    """A source that writes a file as it comes."""

    def fetch(self, path: str, target: Path) -> int: ...


class Transfers:
    """Told of the files that are fetched; this one does nothing."""

    def pending(self, files: int) -> None:
        """So many files are still to be fetched."""

    def fetched(self, seconds: float) -> None: ...

    def failed(self, seconds: float) -> None: ...


@final
class OptOutFiles:
    """Finds and fetches. `on_warning` is told of files that are skipped.

    Files of `source` are kept below `<data_dir>/consumer`, where an operator may also find files of its own.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        source: BlobSource | None = None,
        folder: str = "optout/",
        backtrack_days: int = 1,
        rotate_interval: int = 300,
        on_warning: Callable[[str], None] = lambda _: None,
        transfers: Transfers | None = None,
    ) -> None:
        self._consumer = data_dir / "consumer"
        self._source = source
        self._folder = folder if not folder or folder.endswith("/") else folder + "/"
        self._grace = backtrack_days * DAY_SECONDS + GRACE_INTERVALS * rotate_interval
        self._warn = on_warning
        self._transfers = transfers or Transfers()
        self._skipped: set[str] = set()
        self.fetched = 0

    def find(self) -> list[OptOutFile]:
        """The files to index, sorted by name, fetched where needed.

        StoreUnavailableError: a listing or fetch failed. StoreFormatError: a file is no run of 72-byte entries.
        """
        sizes = self._sizes()
        if self._source is not None and self._fetch_missing(self._source, sizes):
            sizes = self._sizes()
        found = []
        for path, size in sorted(sizes.items(), key=lambda item: os.path.basename(item[0])):
            name = OptOutFileName.parse(os.path.basename(path))
            if name is not None:
                found.append(OptOutFile(name, Path(path), size))
        wanted = reaching_back(found, lambda file: file.name, self._grace)
        return [file for file in wanted if self._usable(file.path.name, file.size)]

    def _fetch_missing(self, source: BlobSource, sizes: Mapping[str, int]) -> bool:
        """Whether there were any."""
        paths = source.list(self._folder)
        named = [(path, name) for path in paths if (name := OptOutFileName.parse(path)) is not None]
        wanted = [
            (path, os.path.join(self._consumer, name.kind, path.rsplit("/", 1)[-1]))
            for path, name in reaching_back(named, lambda item: item[1], self._grace)
        ]
        # Files never change under a name: one that is here whole need not be fetched again.
        missing = [(path, Path(target)) for path, target in wanted if not _whole(sizes.get(target, 0))]
        for number, (path, target) in enumerate(missing):
            self._transfers.pending(len(missing) - number)
            self._fetch(source, path, target)
        self._transfers.pending(0)
        return bool(missing)

    def _fetch(self, source: BlobSource, path: str, target: Path) -> None:
        self.fetched += 1
        began = time.perf_counter()
        try:
            if isinstance(source, StreamingSource):
                source.fetch(path, target)
            else:
                data = source.read(path)
                if self._usable(target.name, len(data)):
                    _keep(target, data)
        except Uid2Error:
            self._transfers.failed(time.perf_counter() - began)
            raise
        self._transfers.fetched(time.perf_counter() - began)

    def _usable(self, name: str, size: int) -> bool:
        try:
            check_size(size)
        except StoreFormatError as error:
            raise error.in_file(name) from None
        if not size and name not in self._skipped:
            self._skipped.add(name)
            self._warn(f"skipped the empty opt-out file {name}")
        return size > 0

    def _sizes(self) -> dict[str, int]:
        """Of the files on disk, in bytes, by their paths."""
        sizes: dict[str, int] = {}
        for kind in OptOutFileKind:
            folder = self._consumer / kind
            if not folder.exists():
                continue
            try:
                with os.scandir(folder) as found:
                    sizes.update(
                        (entry.path, entry.stat().st_size)
                        for entry in found
                        if not entry.name.endswith(".partial") and is_file(entry)
                    )
            except OSError as error:
                raise _unreadable(folder, error) from None
        return sizes


def reaching_back(files: Iterable[F], name_of: Callable[[F], OptOutFileName], grace_seconds: int) -> list[F]:
    """All partitions, synthetic files and undated deltas, and the deltas not older than the newest partition less
    `grace_seconds`; every delta when there is no dated partition."""
    listed = [(file, name_of(file)) for file in files]
    partitions = [
        name.created
        for _, name in listed
        if name.kind is OptOutFileKind.PARTITION and not name.synthetic and name.created is not None
    ]
    oldest = max(partitions) - grace_seconds if partitions else None
    return [
        file
        for file, name in listed
        if name.kind is OptOutFileKind.PARTITION
        or name.synthetic
        or oldest is None
        or name.created is None
        or name.created >= oldest
    ]


def _whole(size: int) -> bool:
    """Whether a file is no run of entries that was cut off; an empty one is asked for again."""
    return size > 0 and size % ENTRY_LENGTH == 0


def _keep(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(data)
        partial.replace(target)
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot keep {target.name}: {error.strerror}", next_step=f"check the space and rights of {target.parent}"
        ) from None


def _unreadable(path: Path, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"cannot use {path.name}: {error.strerror}", next_step=f"check the space and rights of {path.parent}"
    )
