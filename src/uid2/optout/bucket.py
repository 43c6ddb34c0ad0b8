"""The object store of opt-out files: read, list, write whole, delete. Calls block.

A write is atomic and durable when it returns: on disk by rename and fsync, in a cloud by the store itself.
"""

import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError

from uid2.optout.durable_files import PARTIAL, create_file, make_folder, replace_file
from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE
from uid2.stores.sources.local import LocalSource
from uid2.stores.sources.object_store import STORE_FAILURES, ObjectSource, open_object_store, store_refusal
from uid2.stores.sources.renamed import inside, outside

FILE_SCHEME: Final = "file://"


class Bucket(Protocol):
    """StoreUnavailableError: the store does not do what it is asked to."""

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes: ...

    def size(self, path: str) -> int:
        """Bytes."""
        ...

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; fewer only at the end of the file, none behind it."""
        ...

    def list(self, prefix: str) -> list[str]: ...

    def list_after(self, folder: str, name: str) -> builtins.list[str]:
        """The paths in `folder`, which ends in a slash, whose names come after `name`, in order."""
        ...

    def folders(self, folder: str) -> builtins.list[str]:
        """The names of the folders right below `folder`, which ends in a slash."""
        ...

    def put(self, path: str, data: bytes) -> None: ...

    def create(self, path: str, data: bytes) -> bool:
        """Write unless there is something of that name already; whether it was written."""
        ...

    def delete(self, path: str) -> None: ...


@final
class FolderBucket:
    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"the folder of the bucket cannot be made: {error.strerror}",
                next_step=f"check the rights of {root.parent}, or name another folder",
            ) from None
        self.root = root.resolve()
        self._files = LocalSource(self.root)

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        return self._files.read(path.lstrip("/"), limit)

    def size(self, path: str) -> int:
        try:
            return self._files.resolve(path.lstrip("/")).stat().st_size
        except OSError as error:
            raise _unreadable(path, str(self.root), error.strerror or type(error).__name__) from None

    def read_range(self, path: str, start: int, length: int) -> bytes:
        try:
            with self._files.resolve(path.lstrip("/")).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise _unreadable(path, str(self.root), error.strerror or type(error).__name__) from None

    def list(self, prefix: str) -> list[str]:
        return [path for path in self._files.list(prefix.lstrip("/")) if not path.endswith(PARTIAL)]

    def list_after(self, folder: str, name: str) -> builtins.list[str]:
        return [path for path in self.list(folder) if path.rpartition("/")[2] > name]

    def folders(self, folder: str) -> builtins.list[str]:
        try:
            # Path.is_dir, because DirEntry.is_dir fails at a link that leads to itself.
            return sorted(part.name for part in self._files.resolve(folder.strip("/")).iterdir() if part.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused("list", folder, str(self.root), error.strerror or type(error).__name__) from None

    def put(self, path: str, data: bytes) -> None:
        self._write(path, data, replace_file)

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._write(path, data, create_file)
        except FileExistsError:
            return False
        return True

    def delete(self, path: str) -> None:
        try:
            self._files.resolve(path.lstrip("/")).unlink(missing_ok=True)
        except OSError as error:
            raise _refused("delete", path, str(self.root), error.strerror or type(error).__name__) from None

    def _write(self, path: str, data: bytes, write: Callable[[Path, bytes], None]) -> None:
        target = self._files.resolve(path.lstrip("/"))
        try:
            self._make_folders(target.parent)
            write(target, data)
        except FileExistsError:
            raise
        except OSError as error:
            raise _refused("write", path, str(self.root), error.strerror or type(error).__name__) from None

    def _make_folders(self, folder: Path) -> None:
        # From the top, so that the name of each is on the disk before anything is in it.
        for part in reversed((folder, *folder.parents)):
            if part.is_relative_to(self.root):
                make_folder(part)


@final
class CloudBucket:
    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._store = open_object_store(name, options)
        self._name = name
        self._source = ObjectSource(name, self._store)

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        return self._source.read(path, limit)

    def size(self, path: str) -> int:
        try:
            return int(obstore.head(self._store, path.lstrip("/"))["size"])
        except STORE_FAILURES as error:
            raise store_refusal("read", path, self._name, error) from None

    def read_range(self, path: str, start: int, length: int) -> bytes:
        try:
            return bytes(obstore.get_range(self._store, path.lstrip("/"), start=start, length=length))
        except STORE_FAILURES as error:
            # Stores refuse ranges that begin behind the end.
            if start >= self.size(path):
                return b""
            raise store_refusal("read", path, self._name, error) from None

    def list(self, prefix: str) -> list[str]:
        return self._source.list(prefix)

    def list_after(self, folder: str, name: str) -> builtins.list[str]:
        below = folder.strip("/")
        try:
            batches = obstore.list(self._store, below, offset=f"{below}/{name}" if name else None)
            return sorted(item["path"] for batch in batches for item in batch)
        except STORE_FAILURES as error:
            raise store_refusal("list", folder, self._name, error) from None

    def folders(self, folder: str) -> builtins.list[str]:
        try:
            found = obstore.list_with_delimiter(self._store, folder.strip("/"))["common_prefixes"]
        except STORE_FAILURES as error:
            raise store_refusal("list", folder, self._name, error) from None
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def put(self, path: str, data: bytes) -> None:
        try:
            obstore.put(self._store, path.lstrip("/"), data)
        except STORE_FAILURES as error:
            raise store_refusal("write", path, self._name, error) from None

    def create(self, path: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, path.lstrip("/"), data, mode="create")
        except AlreadyExistsError:
            return False
        except STORE_FAILURES as error:
            raise store_refusal("write", path, self._name, error) from None
        return True

    def delete(self, path: str) -> None:
        try:
            obstore.delete(self._store, path.lstrip("/"))
        except FileNotFoundError:
            return
        except STORE_FAILURES as error:
            raise store_refusal("delete", path, self._name, error) from None


@final
class RenamingBucket:
    """Buckets of old deployments, where `delta` is called `log` and `partition` is called `snapshot` (3.6)."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        return self._bucket.read(outside(path), limit)

    def size(self, path: str) -> int:
        return self._bucket.size(outside(path))

    def read_range(self, path: str, start: int, length: int) -> bytes:
        return self._bucket.read_range(outside(path), start, length)

    def list(self, prefix: str) -> list[str]:
        return [inside(path) for path in self._bucket.list(outside(prefix))]

    def list_after(self, folder: str, name: str) -> builtins.list[str]:
        return [inside(path) for path in self._bucket.list_after(outside(folder), name)]

    def folders(self, folder: str) -> builtins.list[str]:
        return self._bucket.folders(outside(folder))

    def put(self, path: str, data: bytes) -> None:
        self._bucket.put(outside(path), data)

    def create(self, path: str, data: bytes) -> bool:
        return self._bucket.create(outside(path), data)

    def delete(self, path: str) -> None:
        self._bucket.delete(outside(path))


def open_bucket(name: str, options: Mapping[str, Any]) -> Bucket:
    """The bucket of a plain name or URL; ConfigurationError when it cannot be opened."""
    if name.startswith(FILE_SCHEME):
        return FolderBucket(Path(unquote(urlsplit(name).path)))
    return CloudBucket(name, options)


def _refused(verb: str, path: str, where: str, why: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"cannot {verb} {path} in {where}: {why}",
        next_step="check the space and the rights there; what was to be written is kept and tried again",
    )


def _unreadable(path: str, where: str, why: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"cannot read {path} in {where}: {why}", next_step="check that it exists and that you may read it"
    )
