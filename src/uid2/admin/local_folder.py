"""A folder of the local file system with conditional writes.

Each object is written beside its place, synchronised, renamed, and the folder synchronised after it; `.admin.lock`
in the root, held for the length of one comparison and rename, makes the comparison safe among processes.
Files are for their owner only: stores hold secrets.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from uid2.admin.errors import ConflictError
from uid2.admin.folder import ABSENT, Blob
from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.local import LocalSource

LOCK_FILE: Final = ".admin.lock"
PARTIAL: Final = ".partial"
Observer = Callable[[str, str], None]


def _unobserved(step: str, path: str) -> None:
    """The usual observer: looks at nothing."""


@final
class LocalFolder:
    """`observe(step, path)` is called before every step that changes the disk: create, write, fsync, rename, fsync
    of the folder, delete."""

    def __init__(self, root: Path, observe: Observer = _unobserved) -> None:
        self._root = root.resolve()
        self._places = LocalSource(self._root)
        self._observe = observe

    @property
    def name(self) -> str:
        return self._root.as_uri()

    def read(self, path: str) -> Blob | None:
        try:
            data = self._place(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble("read", path, error) from None
        return Blob(data, _tag(data))

    def put(self, path: str, data: bytes, expected: str | None = None) -> None:
        place = self._place(path)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                if expected is not None and self._tag_of(place) != expected:
                    raise ConflictError(f"{path} has been written by somebody else")
                self._replace(place, data)
        except OSError as error:
            raise self._trouble("write", path, error) from None

    def delete(self, path: str) -> None:
        self._observe("delete", path)
        try:
            self._place(path).unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble("delete", path, error) from None

    def list(self, prefix: str) -> list[str]:
        return [path for path in self._places.list(prefix) if not path.endswith(PARTIAL)]

    def _place(self, path: str) -> Path:
        return self._places.resolve(path.lstrip("/"))

    def _tag_of(self, place: Path) -> str:
        try:
            return _tag(place.read_bytes())
        except FileNotFoundError:
            return ABSENT

    def _replace(self, place: Path, data: bytes) -> None:
        path = place.relative_to(self._root).as_posix()
        partial = place.with_name(f".{place.name}{PARTIAL}")
        self._observe("create", path)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
            half = memoryview(data)
            while half:
                self._observe("write", path)
                # Two writes for all but the smallest files: a crash between them leaves a torn partial file.
                size = file.write(half[: max(len(data) // 2, 4096)])
                half = half[size:]
            self._observe("fsync", path)
            os.fsync(file.fileno())
        self._observe("rename", path)
        partial.replace(place)
        self._observe("fsync folder", path)
        _sync_folder(place.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _trouble(self, verb: str, path: str, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"cannot {verb} {path} in {self._root}: {error.strerror or type(error).__name__}",
            next_step="check that the folder exists, that you may write to it and that the disk is not full",
        )


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
