"""HTTP calls to Core: bounded in time and size, no redirects, no proxies of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

import httpx

from uid2.corelink.clock import skew_of
from uid2.protocol.errors import DependencyError
from uid2.service.clock import Clock
from uid2.stores.sources.open_sockets import OpenSockets
from uid2.stores.tls import trusted_roots

TIMEOUT: Final = httpx.Timeout(20.0, connect=5.0)
LONGEST_CALL_SECONDS: Final = 60.0
LARGEST_ANSWER: Final = 16 << 20
_CHECK: Final = "check core_attest_url, the network and Core's log"


class CoreUnreachableError(DependencyError):
    """No usable HTTP answer came: refused, timed out, cut, too long."""


@dataclass(frozen=True, slots=True)
class CoreAnswer:
    """`skew_ms`: this clock minus Core's, None when the answer had no date."""

    status: int
    body: bytes = field(repr=False)
    skew_ms: int | None = None


@final
class CoreClient:
    """Blocks; used from threads. `close` ends calls that wait. Tests shorten `timeout` or replace `transport`."""

    def __init__(
        self, clock: Clock, timeout: httpx.Timeout = TIMEOUT, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._clock = clock
        self._sockets = OpenSockets()
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=4, keepalive_expiry=5.0)
        self._client = httpx.Client(
            timeout=timeout,
            limits=limits,
            transport=transport,
            verify=trusted_roots(),
            follow_redirects=False,
            trust_env=False,
        )

    def get(self, url: str, headers: Mapping[str, str], limit: int = LARGEST_ANSWER) -> CoreAnswer:
        return self._call("GET", url, headers, None, limit)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> CoreAnswer:
        return self._call("POST", url, headers, body, LARGEST_ANSWER)

    def close(self) -> None:
        self._sockets.shut()
        self._client.close()

    def _call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int) -> CoreAnswer:
        sent = self._clock.now_ms()
        end = self._clock.monotonic() + LONGEST_CALL_SECONDS
        try:
            with self._client.stream(
                method, url, headers=dict(headers), content=body, extensions=self._sockets.extensions
            ) as response:
                skew = skew_of(response.headers.get("date"), sent, self._clock.now_ms())
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit or self._clock.monotonic() > end:
                        raise CoreUnreachableError("Core's answer is too long or too slow", next_step=_CHECK)
                return CoreAnswer(response.status_code, bytes(data), skew)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            # The text of such an error may quote the address; its type says enough.
            raise CoreUnreachableError(f"Core could not be reached: {type(error).__name__}", next_step=_CHECK) from None
