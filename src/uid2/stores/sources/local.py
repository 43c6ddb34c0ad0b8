"""Files below one folder."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import final

from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE, too_large


@final
class LocalSource:
    """Paths relative to `root`; links and `..` may not lead out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        target = self.resolve(path)
        try:
            with target.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot read {path}: {error.strerror or type(error).__name__}",
                next_step=f"check that the file exists below {self._root} and is readable",
            ) from None
        if len(data) > limit:
            raise too_large(path, limit)
        return data

    def list(self, prefix: str) -> list[str]:
        folder = self.resolve(prefix if prefix.endswith("/") else prefix.rpartition("/")[0])
        try:
            above = len(os.path.join(self._root, ""))
            found = [path[above:] for path in _files_below(str(folder))]
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot list {prefix}: {error.strerror or type(error).__name__}",
                next_step=f"check that {error.filename or folder} is readable",
            ) from None
        return sorted(path for path in found if path.startswith(prefix))

    def resolve(self, path: str) -> Path:
        """The file of a path; StoreUnavailableError when it lies outside the root."""
        target = (self._root / PurePosixPath(path)).resolve()
        if not target.is_relative_to(self._root):
            raise StoreUnavailableError(
                f"{path} lies outside the folder of the stores",
                next_step="use paths below the folder, without leading '..'",
            )
        return target


def _files_below(folder: str) -> Iterator[str]:
    """Links to folders are not followed; a folder that is not there holds nothing."""
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        return
    with found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            elif is_file(entry):
                yield entry.path


def is_file(entry: os.DirEntry[str]) -> bool:
    """As `Path.is_file`, to which a link that leads nowhere is none; the disk is asked about links alone."""
    return entry.is_file(follow_symlinks=False) or Path(entry.path).is_file()
