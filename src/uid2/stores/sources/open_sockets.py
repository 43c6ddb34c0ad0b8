"""The sockets of an HTTP client, so that a program that stops need not wait for an answer that does not come."""

import contextlib
import socket
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final, final
from weakref import WeakSet

# After the second one the socket of the first is no longer in use.
_OPENED: Final = ("connection.connect_tcp.complete", "connection.start_tls.complete")


@final
class OpenSockets:
    """`extensions` belong to every request of one client; `shut` ends those that wait in other threads."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._shut = False

    @property
    def extensions(self) -> dict[str, Any]:
        return {"trace": self._note}

    def shut(self) -> None:
        """For good: a connection that opens later is shut at once. Closing alone would wake nobody."""
        with self._lock:
            self._shut = True
            opened = list(self._sockets)
        for each in opened:
            _end(each)

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        if event not in _OPENED:
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.add(opened)
            shut = self._shut
        if shut:
            _end(opened)


def _end(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # That of a TLS socket would first take its state from under the reading thread.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
