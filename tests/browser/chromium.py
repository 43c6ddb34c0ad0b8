"""A headless Chromium that loads one page and gives its text back; the page tells its server when it has finished."""

import contextlib
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PAGE: Final = Path(__file__).parent / "page.html"
WAIT_SECONDS: Final = 60


def find_browser() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Browser:
    program: str
    folder: Path

    def result(self, host: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What the page reports when it is loaded from `http://HOST:<some port>` with these parameters."""
        with _page_server(parameters) as (port, results):
            origin = f"http://{host}:{port}"
            with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as profile:
                words = [
                    self.program,
                    *FLAGS,
                    f"--user-data-dir={profile}",
                    # Every name is this machine, and a page of such a name may use WebCrypto as if it came by https.
                    "--host-resolver-rules=MAP * 127.0.0.1",
                    f"--unsafely-treat-insecure-origin-as-secure={origin}",
                    "--remote-debugging-pipe",
                    f"{origin}/",
                ]
                return _run(words, results)


def _run(words: list[str], results: "queue.Queue[dict[str, Any]]") -> dict[str, Any]:
    # The pipe of DevTools (descriptors 3 and 4) keeps the browser open until it is ended here.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3< <(sleep 1000) 4>/dev/null', "bash", *words],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            return results.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            log.seek(0)
            raise AssertionError(f"the page reported nothing: {log.read()[-2000:]!r}") from None
        finally:
            # Its children and the pipe's other end are in its group.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@contextlib.contextmanager
def _page_server(parameters: Mapping[str, str]) -> Iterator[tuple[int, "queue.Queue[dict[str, Any]]"]]:
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    page = PAGE.read_bytes().replace(b"PARAMETERS", json.dumps(dict(parameters)).encode())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*((200, page) if self.path == "/" else (404, b"")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b"")
            results.put(json.loads(body))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the library
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], results
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
