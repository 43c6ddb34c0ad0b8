"""Object stores named by URL: `file:///…`, `s3://…`, `az://…`, `gs://…`; a plain name is an S3 bucket.

S3 takes region, key pair and endpoint from the `aws_…` configuration keys; what these leave open, and everything of the
other stores, comes from the environment variables that each store's own tools read.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE, too_large

LOCAL_SCHEMES: Final = ("file", "memory")
S3_SCHEMES: Final = ("s3", "s3a")
S3_OPTIONS: Final = ("region", "access_key_id", "secret_access_key", "endpoint")
# A refresh is repeated by itself: its next tick is the better retry.
_CLIENT: Final = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=20),
    "timeout": timedelta(seconds=300),
}
_RETRIES: Final = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}
_STATUS: Final = re.compile(r"status code: (\d{3})\b")
STORE_FAILURES: Final = (BaseError, OSError, ValueError)


def bucket_url(bucket: str) -> str:
    return bucket if "://" in bucket else f"s3://{bucket}"


def open_object_store(bucket: str, options: Mapping[str, Any] | None = None) -> ObjectStore:
    """The client of a bucket: every call ends within a time. `S3_OPTIONS` count for S3 alone.

    ConfigurationError: no such kind of bucket, or its store lacks the name of an account.
    """
    url = bucket_url(bucket)
    scheme = url.partition("://")[0]
    given = {name: value for name, value in (options or {}).items() if value}
    chosen = {name: value for name, value in given.items() if scheme in S3_SCHEMES or name not in S3_OPTIONS}
    if scheme not in LOCAL_SCHEMES:
        chosen["client_options"] = dict(_CLIENT)
        chosen["retry_config"] = _RETRIES
        # A stand-in on this machine speaks plain http; nobody gets it who does not ask for it.
        if str(chosen.get("endpoint", "")).startswith("http://") or _http_allowed(scheme):
            chosen["client_options"]["allow_http"] = True
    try:
        return from_url(url, **chosen)
    except STORE_FAILURES as error:
        raise ConfigurationError(
            f"cannot open the bucket: {type(error).__name__}",
            next_step="use a plain bucket name or a URL that begins with file:///, s3://, az:// or gs://, "
            "and check the credentials in the configuration or the environment",
        ) from None


def _http_allowed(scheme: str) -> bool:
    """`AWS_ALLOW_HTTP=true` and its like; the client forgets it when it is given other options."""
    maker = "AWS" if scheme in S3_SCHEMES else "GOOGLE" if scheme == "gs" else "AZURE"
    return os.environ.get(f"{maker}_ALLOW_HTTP", "").lower() == "true"


def open_object_source(bucket: str, options: Mapping[str, Any] | None = None) -> "ObjectSource":
    """The store files of a bucket; as `open_object_store`."""
    return ObjectSource(bucket, open_object_store(bucket, options))


def store_refusal(verb: str, path: str, where: str, error: Exception) -> StoreUnavailableError:
    """What a failed call means. The store's own text stays out: it may quote addresses and credentials."""
    # Not every call of the client has a class of its own for what the store answered.
    answered = _STATUS.search(str(error))
    status = answered[1] if answered else ""
    if isinstance(error, FileNotFoundError) or status == "404":
        why, next_step = "it is not there", "check the path, and that the bucket exists"
    elif isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403"):
        why, next_step = "the store refuses the credentials", "check the credentials and their rights in the bucket"
    else:
        why = f"the store cannot be used ({type(error).__name__})"
        next_step = "check that the store can be reached, its address, the bucket's name and the credentials"
    return StoreUnavailableError(f"cannot {verb} {path or 'the bucket'} in {where}: {why}", next_step=next_step)


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
        except STORE_FAILURES as error:
            raise store_refusal("read", path, self._name, error) from None

    def list(self, prefix: str) -> list[str]:
        # The client compares whole path segments: list the folder and compare the rest here.
        wanted = prefix.lstrip("/")
        folder = wanted.rpartition("/")[0]
        try:
            batches = obstore.list(self._store, folder or None)
            return sorted(item["path"] for batch in batches for item in batch if item["path"].startswith(wanted))
        except STORE_FAILURES as error:
            raise store_refusal("list", prefix, self._name, error) from None
