"""Requests and answers between supervisor and worker over one UNIX stream socket.

    u32 big-endian length ‖ JSON
    {"id": n, "name": …, "payload": …}     a request
    {"id": n, "answer": …}                 its answer
    {"id": n, "error": …}                  it failed: the text says how

Both sides may ask. Requests are handled as they arrive, each in a task of its own.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from uid2.protocol.errors import DependencyError, Uid2Error

FRAME_LIMIT: Final = 64 << 20
_LENGTH: Final = struct.Struct(">I")

ChannelHandler = Callable[[Any], Awaitable[Any]]

_log = logging.getLogger(__name__)


class ChannelError(DependencyError):
    """The other side is gone, does not answer in time, or says that it failed."""

    code = "control_channel"


class Channel:
    """One end. Register handlers with `on`, then `open` it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._handlers: dict[str, ChannelHandler] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_id = 0
        self._writer: asyncio.StreamWriter | None = None
        self.closed = asyncio.Event()

    def on(self, name: str, handler: ChannelHandler) -> None:
        self._handlers[name] = handler

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._end)
        self._start(self._read(reader))

    async def request(self, name: str, payload: Any = None, timeout: float | None = None) -> Any:
        """The answer of the other side; ChannelError when there is none within `timeout` seconds."""
        if self.closed.is_set():
            raise ChannelError("the control channel is closed")
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._send({"id": number, "name": name, "payload": payload})
                return await answer
        except TimeoutError:
            raise ChannelError(f"no answer to {name} within {timeout} s") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._end_all()

    async def _send(self, message: dict[str, Any]) -> None:
        data = msgspec.json.encode(message)
        if len(data) > FRAME_LIMIT:
            raise ChannelError("a control message is too long")
        if self._writer is None or self.closed.is_set():
            raise ChannelError("the control channel is closed")
        self._writer.write(_LENGTH.pack(len(data)) + data)
        try:
            await self._writer.drain()
        except OSError:
            raise ChannelError("the control channel is closed") from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if length > FRAME_LIMIT:
                    raise ChannelError("a control message is too long")
                self._take(msgspec.json.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (msgspec.DecodeError, Uid2Error) as error:
            _log.error("the control channel is out of step", extra={"error_type": type(error).__name__})
        finally:
            self.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "name" in message:
            self._start(self._handle(message["id"], message["name"], message.get("payload")))
            return
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            return
        if "error" in message:
            waiting.set_exception(ChannelError(str(message["error"])))
        else:
            waiting.set_result(message.get("answer"))

    async def _handle(self, number: int, name: str, payload: Any) -> None:
        handler = self._handlers.get(name)
        try:
            if handler is None:
                raise ChannelError(f"nothing handles {name}")
            message = {"id": number, "answer": await handler(payload)}
        except Uid2Error as error:
            message = {"id": number, "error": error.message}
        except Exception as error:  # noqa: BLE001 - the other side waits for an answer whatever went wrong
            _log.error("a control handler failed", extra={"control": name, "error_type": type(error).__name__})
            message = {"id": number, "error": f"{name} failed: {type(error).__name__}"}
        try:
            await self._send(message)
        except ChannelError:
            _log.debug("an answer was not wanted any more")

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end_all(self) -> None:
        self.closed.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelError("the control channel is closed"))
