"""HTTP/1 with the rules that the parser leaves open (operator API chapter, 1.3, 2.2, 2.4, 2.5).

    HTTP/1.1 without Host, or several Hosts                          400
    Content-Length with Transfer-Encoding, repeated lengths          400
    a transfer coding other than `chunked`, or any in HTTP/1.0       400
    anything that is not HTTP                                        400
    Expect other than 100-continue                                   417
    request line above its limit                                     414
    header block above its limit                                     431
    head or body not complete within its time                        408

Each closes the connection: after a request that was not understood, what follows cannot be told from a request.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from uid2.service.messages import reason_phrase

# Added to what arrives of a head before it is complete: the line's and the fields' own separators.
_FRAMING: Final = 4


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bytes and seconds. The reference's header limit is 8,192; up to 32 kB is let through here."""

    request_line: int = 4096
    header_block: int = 32 << 10
    head_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: int = 75


class RefusedRequestError(Exception):
    """Ends parsing; the answer is prepared in `_refusal`."""


class StrictProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: HttpLimits | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Paths and addresses of requests are written nowhere, whatever the loggers are set to.
        self.access_log = False
        self._limits = limits or HttpLimits()
        self._refusal: int = 400
        self._closed_to_input = False
        self._in_head = False
        self._in_body = False
        self._unparsed_head = 0
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._takes_no_input():
            return
        if not self._in_body:
            # The parser keeps an unfinished header field to itself, so what it has swallowed is counted here too.
            self._unparsed_head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._takes_no_input():
            return
        if not self._in_body and self._unparsed_head > self._limits.request_line + self._limits.header_block:
            self._refusal = 431
            self.send_400_response("")
            return
        if self._timer is None and self._idle and self.timeout_keep_alive_task is None:
            self._set_timer(self._limits.head_seconds)

    def _takes_no_input(self) -> bool:
        return self._closed_to_input

    @property
    def _idle(self) -> bool:
        """No request is being read or answered."""
        return not self._in_body and not self._answering

    @property
    def _answering(self) -> bool:
        """A request has begun whose response is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._header_bytes = 0
        if self._timer is None:
            self._set_timer(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.request_line:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + _FRAMING
        if self._header_bytes > self._limits.header_block:
            self._refuse(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._check_head()
        self._in_head = False
        self._in_body = True
        self._unparsed_head = 0
        self._set_timer(self._limits.body_seconds)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # No other protocol is spoken here; bytes that belong to one must not be read as requests.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_body = False
        self._clear_timer()
        super().on_message_complete()

    def _check_head(self) -> None:
        names = Counter(name for name, _ in self.headers)
        fields = dict(self.headers)
        version = self.parser.get_http_version()
        codings = names[b"transfer-encoding"]
        wrong_host = names[b"host"] > 1 or (version == "1.1" and not names[b"host"])
        wrong_length = names[b"content-length"] > 1 or (names[b"content-length"] and codings)
        wrong_coding = codings and (
            codings > 1 or version != "1.1" or fields[b"transfer-encoding"].strip().lower() != b"chunked"
        )
        if wrong_host or wrong_length or wrong_coding or version not in ("1.0", "1.1"):
            self._refuse(400)
        if names[b"expect"] and (names[b"expect"] > 1 or fields[b"expect"].strip().lower() != b"100-continue"):
            self._refuse(417)

    # Refusals

    def _refuse(self, status: int) -> None:
        self._refusal = status
        raise RefusedRequestError

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words stay inside
        """Answers with the prepared status and closes; a response that is under way is not disturbed."""
        self._closed_to_input = True
        self._clear_timer()
        answering = self._answering
        if answering and not self._in_body:
            # A later request of the same connection is at fault: the earlier ones are still answered.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        queued = bool(self.pipeline)
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # One request, one answer: none beside one that has begun, and none that would pass for an earlier request's.
        begun = self._in_body and (not answering or self.cycle.response_started)
        if not begun and not queued:
            body = reason_phrase(self._refusal).encode("ascii")
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (self._refusal, body, len(body), body)
            )
        self.transport.close()

    # Time

    def _set_timer(self, seconds: float) -> None:
        self._clear_timer()
        self._timer = self.loop.call_later(seconds, self._time_is_up)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            # Reading waits for us, not for the client: an earlier request of this connection is being answered.
            self._set_timer(self._limits.body_seconds if self._in_body else self._limits.head_seconds)
        elif self._in_head or self._in_body:
            self._refusal = 408
            self.send_400_response("")
        elif self._idle:
            self.transport.close()
