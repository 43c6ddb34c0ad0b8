"""Content behind pre-signed HTTPS addresses. The address is a credential: no text here ever holds its query."""

import io
from typing import BinaryIO, final
from urllib.parse import urlsplit

import httpx

from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE, too_large
from uid2.stores.sources.open_sockets import OpenSockets
from uid2.stores.tls import trusted_roots

TIMEOUT = httpx.Timeout(60.0, connect=10.0)


@final
class PresignedSource:
    """Plain GET without any header of ours; every 2xx counts. `transport` replaces the network in tests.

    `close` ends reads that wait in other threads.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._sockets = OpenSockets()
        self._client = httpx.Client(
            transport=transport, verify=trusted_roots(), timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        data = io.BytesIO()
        self.copy(path, data, limit)
        return data.getvalue()

    def copy(self, path: str, target: BinaryIO, limit: int = LARGEST_FILE) -> None:
        """`read` into an open file, as it comes; after an error what is in it means nothing."""
        shown = shown_address(path)
        size = 0
        try:
            with self._client.stream("GET", path, extensions=self._sockets.extensions) as response:
                if not response.is_success:
                    raise StoreUnavailableError(
                        f"E12: Data Download Failure - HTTP response code {response.status_code} from {shown}",
                        next_step="the address may have expired; the next refresh fetches a fresh one",
                    )
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > limit:
                        raise too_large(shown, limit)
                    target.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreUnavailableError(
                f"E12: Data Download Failure - exception: {type(error).__name__} from {shown}",
                next_step="check that the host is reachable",
            ) from None

    def list(self, prefix: str) -> list[str]:
        raise StoreUnavailableError(
            f"{shown_address(prefix)} cannot be listed", next_step="list through the service that signs the addresses"
        )

    def close(self) -> None:
        self._sockets.shut()
        self._client.close()


def shown_address(address: str) -> str:
    """Host and path of an address, without query and user information."""
    parts = urlsplit(address)
    return f"{parts.hostname or ''}{parts.path}"
