"""Fetching collateral over HTTP."""

from typing import Final, final

import httpx

from uid2.attestation.collateral_pcs import FetchedDocument

TIMEOUT: Final = httpx.Timeout(20.0, connect=5.0)
# The largest document, a revocation list, has some hundred kilobytes.
LARGEST: Final = 4 << 20


@final
class HttpFetch:
    """A plain GET; `https_only` refuses other addresses, `transport` replaces the network in tests."""

    def __init__(self, *, https_only: bool = False, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._https_only = https_only
        self._transport = transport

    async def __call__(self, url: str) -> FetchedDocument:
        """Any status is handed on; ConnectionError: no answer, one that is too long, or an address not allowed."""
        if self._https_only and not url.startswith("https://"):
            raise ConnectionError("collateral is fetched over https only")
        try:
            async with (
                httpx.AsyncClient(transport=self._transport, timeout=TIMEOUT, follow_redirects=False) as client,
                client.stream("GET", url) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST:
                        raise ConnectionError(f"the answer has more than {LARGEST} bytes")
                headers = {name.lower(): value for name, value in response.headers.items()}
                return FetchedDocument(response.status_code, headers, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConnectionError(type(error).__name__) from None
