"""One call to a partner for one opt-out, with its repetitions (opt-out chapter, 7.3).

200 204: told      429 500 502 503 504: again after the partner's pause, `retry_count` times      anything else: failed
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, final
from urllib.parse import quote

import httpx

from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.optout_log import OptOutEntry
from uid2.protocol.partners import Partner

TIMEOUT_SECONDS: Final = 30.0
SENT: Final = (200, 204)
REPEATED: Final = (429, 500, 502, 503, 504)
_TEXT: Final = "configuration of partner"


class NotSentError(Exception):
    """`outcome` is the label in the metrics; no part of the opt-out is in it."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@final
class PartnerCalls:
    """ConfigurationError: the partner's address, parameters or headers cannot be used."""

    def __init__(
        self,
        partner: Partner,
        client: httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._partner = partner
        self._client = client
        self._sleep = sleep
        self._query = [_pair(partner, text, "=", "query_params") for text in partner.query_params]
        self._headers = [_pair(partner, text, ":", "additional_headers") for text in partner.additional_headers]
        try:
            parts = httpx.URL(partner.url)
        except httpx.InvalidURL:
            parts = httpx.URL("")
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigurationError(
                f"{_TEXT} {partner.name}: url is no http or https address",
                next_step=f"uid2 admin partner update {partner.name}",
            )

    async def send(self, entry: OptOutEntry) -> None:
        """Returns when the partner has taken it. NotSentError."""
        url = self._address(entry)
        headers = {name: self._filled(value, entry).strip() for name, value in self._headers}
        for attempt in range(self._partner.retry_count + 1):
            if attempt:
                await self._sleep(self._partner.retry_backoff_ms / 1000)
            try:
                # No redirects: they would take the identifier to somebody else.
                answer = await self._client.request(
                    self._partner.method, url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=False
                )
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
                raise NotSentError("unknown_error") from None
            if answer.status_code in SENT:
                return
            if answer.status_code not in REPEATED:
                raise NotSentError(f"unexpected_status_code_{answer.status_code}")
        raise NotSentError("too_many_retries")

    def _address(self, entry: OptOutEntry) -> str:
        query = "&".join(f"{quote(name, safe='')}={quote(self._filled(v, entry), safe='')}" for name, v in self._query)
        if not query:
            return self._partner.url
        return f"{self._partner.url}{'&' if '?' in self._partner.url else '?'}{query}"

    @staticmethod
    def _filled(text: str, entry: OptOutEntry) -> str:
        return text.replace("${ADVERTISING_ID}", encode_base64(entry.advertising_id)).replace(
            "${OPTOUT_EPOCH}", str(entry.timestamp)
        )


def _pair(partner: Partner, text: str, separator: str, member: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not name or not found or not value:
        raise ConfigurationError(
            f"{_TEXT} {partner.name}: an item of {member} is not name{separator}value",
            next_step=f"uid2 admin partner update {partner.name}",
        )
    return name, value
