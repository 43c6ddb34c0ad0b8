"""An HTTP listener: our protocol on one bound socket, started and stopped in order.

Stopping: no new connections, idle ones are closed, running requests finish within a time, the rest is cut.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from uid2.protocol.errors import ConfigurationError
from uid2.service.strict_protocol import HttpLimits, StrictProtocol

BACKLOG: Final = 2048
_POLL_SECONDS: Final = 0.02

AsgiApplication = Callable[[Any, Any, Any], Awaitable[None]]

_log = logging.getLogger(__name__)


def event_loop_factory(name: str | None = None, *, libos: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:
    """`asyncio`, `uvloop`, or by default uvloop where it is installed and no LibOS is below."""
    if name not in (None, "", "asyncio", "uvloop"):
        raise ConfigurationError(
            f"configuration key http_loop must be asyncio or uvloop, not {name}", next_step="correct http_loop"
        )
    if name == "asyncio" or (libos and name != "uvloop"):
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise ConfigurationError(
                "configuration key http_loop is uvloop and uvloop is not installed", next_step="use asyncio"
            ) from None
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


def bind_socket(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigurationError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}",
            next_step="stop what holds the port, or set another address or port_offset",
        ) from None
    listener.setblocking(False)
    return listener


class HttpServer:
    """Serves one ASGI application on listening sockets that it then owns."""

    def __init__(
        self, application: AsgiApplication, sockets: Iterable[socket.socket], limits: HttpLimits | None = None
    ) -> None:
        self._sockets = list(sockets)
        self.limits = limits or HttpLimits()
        self._state = ServerState()
        self._listeners: list[asyncio.AbstractServer] = []
        self._config = Config(
            application,
            lifespan="off",
            ws="none",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=self.limits.idle_seconds,
        )

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(listener.getsockname()[1] for listener in self._sockets)

    @property
    def running_requests(self) -> int:
        return len(self._state.tasks)

    async def start(self) -> None:
        self._config.load()
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            self._listeners.append(await loop.create_server(self._protocol, sock=listener, backlog=BACKLOG))

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Returns when every connection is gone; requests that outlast `grace_seconds` are cancelled."""
        for server in self._listeners:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_seconds
        while self._state.tasks and loop.time() < end:
            await asyncio.wait(self._state.tasks, timeout=min(_POLL_SECONDS, grace_seconds))
        if self._state.tasks:
            _log.warning("requests were cut at the end of the grace time", extra={"requests": len(self._state.tasks)})
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.sleep(0)
        # What was written is flushed by close(); only a peer that does not read is cut off.
        for connection in list(self._state.connections):
            connection.transport.close()
        end = loop.time() + 1.0
        while self._state.connections and loop.time() < end:
            await asyncio.sleep(_POLL_SECONDS)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        return StrictProtocol(self._config, self._state, {}, limits=self.limits)
