"""Short-lived addresses of store files: signed by the cloud's store, or by this service for files on this machine.

    <base>/files/<path>?expires=<epoch seconds>&signature=<base64url of HMAC-SHA256(key, path, 0, expires)>

A local store thus goes the way of a cloud store: metadata with an address, then a plain GET without credentials.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Any, Final, Protocol, final
from urllib.parse import quote, unquote

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from uid2.protocol.encoding import decode_base64url, encode_base64url
from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.protocol.ids import EpochSeconds
from uid2.service.http import Route
from uid2.service.messages import Request, Response
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.object_store import STORE_FAILURES, open_object_store

FILES_PREFIX: Final = "/files/"
OCTETS: Final = "application/octet-stream"
_LONGEST_EXPIRY: Final = 12

_log = logging.getLogger(__name__)


class UrlSigner(Protocol):
    def sign(self, path: str, base_url: str) -> str:
        """An address under which `path` can be fetched for a while; `base_url` is this service's own."""
        ...


@final
class CloudUrls:
    """Addresses that S3, Azure Blob Storage or Google Cloud Storage accept."""

    def __init__(self, bucket: str, options: Mapping[str, Any], lifetime_seconds: int) -> None:
        store = open_object_store(bucket, options)
        if not isinstance(store, S3Store | AzureStore | GCSStore):
            raise ConfigurationError(
                "the bucket cannot sign addresses", next_step="use a bucket of S3, Azure, Google Cloud, or file:///"
            )
        self._store = store
        self._lifetime = timedelta(seconds=lifetime_seconds)

    def sign(self, path: str, base_url: str) -> str:  # noqa: ARG002 - a cloud's address names its own host
        try:
            return obstore.sign(self._store, "GET", path.lstrip("/"), self._lifetime)
        except STORE_FAILURES as error:
            raise StoreUnavailableError(
                f"cannot sign an address: {type(error).__name__}",
                next_step="check that the credentials of the bucket allow signing",
            ) from None


@final
class FileLinks:
    """Addresses of files that this service hands out itself, and the route that does. `key` is secret."""

    def __init__(self, key: bytes, source: BlobSource, lifetime_seconds: int, now: Callable[[], EpochSeconds]) -> None:
        self._key = key
        self._source = source
        self._lifetime = lifetime_seconds
        self._now = now

    def sign(self, path: str, base_url: str) -> str:
        plain = path.lstrip("/")
        expires = self._now() + self._lifetime
        mark = encode_base64url(self._mark(plain, str(expires)))
        return f"{base_url.rstrip('/')}{FILES_PREFIX}{quote(plain)}?expires={expires}&signature={mark}"

    def route(self) -> Route:
        return Route(("GET",), f"{FILES_PREFIX}*", self.serve)

    async def serve(self, request: Request) -> Response:
        """The file; 403 when the address is not ours, was changed or has expired; 404 when the file is gone."""
        path = unquote(request.path[len(FILES_PREFIX) :])
        expires = request.query.get("expires", "")
        try:
            presented = decode_base64url(request.query.get("signature", ""))
        except ValueError:
            presented = b""
        if not compare_digest(presented, self._mark(path, expires)):
            return _refused("the signature does not fit the address")
        if len(expires) > _LONGEST_EXPIRY or int(expires) <= self._now():
            return _refused("the address has expired; ask for a fresh one")
        try:
            data = await asyncio.to_thread(self._source.read, path)
        except StoreUnavailableError as error:
            _log.error("a signed address names a file that cannot be read: %s", error.message)
            return Response(404, b"the file is not there", "text/plain")
        return Response(200, data, OCTETS)

    def _mark(self, path: str, expires: str) -> bytes:
        return digest(self._key, f"{path}\0{expires}".encode("utf-8", "surrogatepass"), sha256)


def _refused(why: str) -> Response:
    return Response(403, why.encode(), "text/plain")
