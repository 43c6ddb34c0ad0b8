"""A bucket of an object store (S3, Azure, Google) with the store's own conditional put."""

from typing import Any, Final, final

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError
from obstore.store import ObjectStore

from uid2.admin.errors import ConflictError
from uid2.admin.folder import ABSENT, Blob
from uid2.protocol.errors import ConfigurationError
from uid2.stores.sources.base import LARGEST_FILE, too_large
from uid2.stores.sources.object_store import STORE_FAILURES, open_object_store, store_refusal

SCHEMES: Final = ("s3", "s3a", "az", "azure", "abfs", "abfss", "gs", "memory")
# An ETag and, where the store has one, a version, in one text.
_SEPARATOR: Final = "\n"


def open_object_folder(url: str) -> "ObjectFolder":
    """The bucket of a URL; credentials come from the environment as the store's own tools read them."""
    if url.partition("://")[0] not in SCHEMES:
        raise ConfigurationError(
            f"unknown kind of store: {url.partition('://')[0]}://",
            next_step="use a URL that begins with file:///, s3://, az:// or gs://",
        )
    return ObjectFolder(url, open_object_store(url))


@final
class ObjectFolder:
    def __init__(self, name: str, store: ObjectStore) -> None:
        self._name = name
        self._store = store

    @property
    def name(self) -> str:
        return self._name

    def read(self, path: str) -> Blob | None:
        try:
            found = obstore.get(self._store, path.lstrip("/"))
            if found.meta["size"] > LARGEST_FILE:
                raise too_large(path, LARGEST_FILE)
            tag = _SEPARATOR.join((found.meta["e_tag"] or "", found.meta["version"] or ""))
            return Blob(bytes(found.bytes()), tag)
        except (NotFoundError, FileNotFoundError):
            return None
        except STORE_FAILURES as error:
            raise store_refusal("read", path, self._name, error) from None

    def put(self, path: str, data: bytes, expected: str | None = None) -> None:
        mode: Any = "overwrite"
        if expected == ABSENT:
            mode = "create"
        elif expected is not None:
            e_tag, version = expected.split(_SEPARATOR)
            # Not every store has versions.
            mode = {name: value for name, value in (("e_tag", e_tag), ("version", version)) if value}
        try:
            # Multipart uploads cannot carry a condition.
            obstore.put(
                self._store, path.lstrip("/"), data, mode=mode, use_multipart=None if expected is None else False
            )
        except (AlreadyExistsError, PreconditionError):
            raise ConflictError(f"{path} has been written by somebody else") from None
        except STORE_FAILURES as error:
            raise store_refusal("write", path, self._name, error) from None

    def delete(self, path: str) -> None:
        try:
            obstore.delete(self._store, path.lstrip("/"))
        except (NotFoundError, FileNotFoundError):
            return
        except STORE_FAILURES as error:
            raise store_refusal("delete", path, self._name, error) from None

    def list(self, prefix: str) -> list[str]:
        try:
            batches = obstore.list(self._store, prefix.strip("/") or None)
            return sorted(item["path"] for batch in batches for item in batch)
        except STORE_FAILURES as error:
            raise store_refusal("list", prefix, self._name, error) from None
