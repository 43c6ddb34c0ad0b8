"""POST /ops/evidence: what this program is, proved to anyone who sends a nonce.

    {"nonce": base64 of 16 to 64 bytes} ─▶ quote over (domain, nonce, digest of the configuration)

The report data begin with another domain than those of /attest, so such a quote attests nowhere.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ConfigurationError, Uid2Error
from uid2.protocol.json_text import parse_object
from uid2.service.clock import Clock
from uid2.service.http import Route
from uid2.service.messages import Request, Response, json_response
from uid2.service.metrics import Metrics

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

PATH: Final = "/ops/evidence"
NONCE_LENGTHS: Final = (16, 64)
BODY_LIMIT: Final = 4096
# A quote costs the machine's quoting service about as much as an attestation.
BURST: Final = 5
SECONDS_EACH: Final = 2.0


def configuration_digest(members: Mapping[str, Any]) -> bytes:
    """SHA-256 of a configuration as it may be printed, secrets masked: JSON, sorted, without spaces, UTF-8."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def record_digest(path: Path | None) -> str | None:
    """SHA-256 of the identity record that lies beside the program, in hex; None without one."""
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"identity_record cannot be read: {error.strerror}", next_step="correct identity_record, or remove it"
        ) from None


@final
class RateLimit:
    """Up to `BURST` at once, then one each `SECONDS_EACH`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.monotonic()
        self._left = float(BURST)

    def wait(self) -> float:
        """0 takes one; else the seconds until there is one."""
        now = self._clock.monotonic()
        self._left = min(float(BURST), self._left + (now - self._at) / SECONDS_EACH)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * SECONDS_EACH
        self._left -= 1
        return 0.0


@final
class EvidenceEndpoint:
    """`source` None: a program outside any TEE, which can prove nothing."""

    def __init__(
        self,
        source: "QuoteSource | None",
        version: str,
        configuration: bytes,
        record: str | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._version = version
        self._configuration = configuration
        self._record = record
        self._limit = RateLimit(clock)
        self._one_at_a_time = asyncio.Lock()
        self._metrics = metrics

    def route(self) -> Route:
        return Route(("POST",), PATH, self.handle, BODY_LIMIT)

    async def handle(self, request: Request) -> Response:
        response = await self._answer(request)
        self._metrics.count("uid2_operator_evidence_total", status=str(response.status))
        return response

    async def _answer(self, request: Request) -> Response:
        nonce = _nonce(request.body)
        if nonce is None:
            return _problem(400, "client_error", 'the body must be {"nonce": base64 of 16 to 64 bytes}')
        if self._source is None:
            return _problem(404, "no_tee", "this operator runs outside a TEE; it has no evidence")
        wait = self._limit.wait()
        if wait > 0:
            answer = _problem(429, "too_many_requests", "evidence is made at most once every two seconds")
            return answer.with_headers(("retry-after", str(int(wait) + 1)))
        from uid2.attestation.binding import evidence_report_data

        report_data = evidence_report_data(nonce, self._configuration)
        try:
            async with self._one_at_a_time:
                quote = await asyncio.to_thread(self._source.quote, report_data)
        except Uid2Error as error:
            return _problem(503, "no_quote", error.message)
        body = {
            "quote": encode_base64(quote),
            "nonce": encode_base64(nonce),
            "version": self._version,
            "platform": self._source.kind,
            "configuration_digest": self._configuration.hex(),
            "record_digest": self._record,
        }
        return json_response(200, {"status": "success", "body": body})


def _nonce(body: bytes) -> bytes | None:
    try:
        text = parse_object(body).get("nonce")
        nonce = decode_base64(text) if isinstance(text, str) else b""
    except ValueError:
        return None
    return nonce if NONCE_LENGTHS[0] <= len(nonce) <= NONCE_LENGTHS[1] else None


def _problem(status: int, code: str, message: str) -> Response:
    return json_response(status, {"status": code, "message": message})
