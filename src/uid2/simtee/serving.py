"""An application on a loopback port, from a thread of its own; for programs without an event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from uid2.service.server import AsgiApplication, HttpServer, bind_socket

START_SECONDS: Final = 10.0


@contextlib.contextmanager
def serving(application: AsgiApplication, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Gives the origin, `http://<host>:<port>`; serves until the block ends. Port 0: one that is free."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="serving", daemon=True)
    thread.start()
    listener = bind_socket(host, port)
    server = HttpServer(application, [listener])
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(START_SECONDS)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0.1), loop).result(START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()
