"""Object stores named by URL: `file:///…`, `s3://…`, `az://…`, `gs://…`; a plain name is an S3 bucket."""

from collections.abc import Mapping
from typing import Any, final

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE, too_large


def bucket_url(bucket: str) -> str:
    return bucket if "://" in bucket else f"s3://{bucket}"


def open_object_source(bucket: str, options: Mapping[str, Any] | None = None) -> "ObjectSource":
    """The store a bucket key names; `options` such as `aws_region` go to the store's client."""
    try:
        return ObjectSource(bucket, from_url(bucket_url(bucket), **(options or {})))
    except (BaseError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"cannot open the bucket: {type(error).__name__}",
            next_step="use a plain bucket name or a URL that begins with file:///, s3://, az:// or gs://",
        ) from None


@final
class ObjectSource:
    def __init__(self, name: str, store: ObjectStore) -> None:
        self._name = name
        self._store = store

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        try:
            found = obstore.get(self._store, path.lstrip("/"))
            if found.meta["size"] > limit:
                raise too_large(path, limit)
            return bytes(found.bytes())
        except (BaseError, OSError, ValueError) as error:
            raise self._unavailable("read", path, error) from None

    def list(self, prefix: str) -> list[str]:
        # The client compares whole path segments: list the folder and compare the rest here.
        wanted = prefix.lstrip("/")
        folder = wanted.rpartition("/")[0]
        try:
            batches = obstore.list(self._store, folder or None)
            return sorted(item["path"] for batch in batches for item in batch if item["path"].startswith(wanted))
        except (BaseError, OSError, ValueError) as error:
            raise self._unavailable("list", prefix, error) from None

    def _unavailable(self, verb: str, path: str, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"cannot {verb} {path} in {self._name}: {type(error).__name__}",
            next_step="check that the object exists and that the credentials may read it",
        )
