"""The opt-out service as a process of its own on loopback, and everything that it logs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from optout_stage import INTERNAL, KEY, STORES, parameters

from running_stack import free_offset

PORTS = (8081, 8082, 9081)
READY_SECONDS = 60


@dataclass
class RunningOptOut:
    folder: Path
    offset: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{8081 + self.offset}"

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{9081 + self.offset}"

    @property
    def log(self) -> str:
        return (self.folder / "optout.log").read_text(errors="replace")

    def replicate(self, n: int, trace: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}", **({} if trace is None else {"UID-Trace-Id": trace})}
        return httpx.post(f"{self.url}/optout/replicate", params=parameters(n), headers=headers, timeout=30)

    def produce(self) -> dict[str, Any]:
        """Runs one job to its end."""
        path = f"http://127.0.0.1:{8082 + self.offset}/optout/deltaproduce"
        headers = {"Authorization": f"Bearer {INTERNAL}"}
        assert httpx.post(path, headers=headers, timeout=30).status_code == 202
        end = time.monotonic() + READY_SECONDS
        while True:
            state: dict[str, Any] = httpx.get(f"{path}/status", headers=headers, timeout=30).json()
            if state["state"] != "running":
                return state
            assert time.monotonic() < end, "the job does not end"
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = httpx.get(f"{self.ops}/ops/status", timeout=30).json()
        return document

    def raw(self, data: bytes) -> bytes:
        """What a socket answers to bytes, until it closes."""
        with socket.create_connection(("127.0.0.1", 8081 + self.offset), timeout=30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running_optout(folder: Path, **members: Any) -> Iterator[RunningOptOut]:
    """Start the service on `folder`, which may hold what a former one left, and stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "stores").exists():
        shutil.copytree(STORES / "operators", folder / "stores/operators")
    settings = {
        "environment": "development",
        "http_host": "127.0.0.1",
        "att_token_enc_key": "key",
        "att_token_enc_salt": "salt",
        "enforceJwt": False,
        "optout_internal_api_token": INTERNAL,
        "storage_mock_root": str(folder / "stores"),
        "optout_s3_bucket": f"file://{folder / 'bucket'}",
        "optout_data_dir": str(folder / "data"),
        "optout_sqs_delta_window_seconds": 0,
    }
    (folder / "optout.json").write_text(json.dumps(settings | members))
    offset = free_offset(ports=PORTS)
    with (folder / "optout.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uid2.cli.main", "optout", "serve", "--config", str(folder / "optout.json")],
            stdout=log,
            stderr=log,
            env={**os.environ, "port_offset": str(offset)},
        )
    running = RunningOptOut(folder, offset, process)
    try:
        _await_ready(running)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def _await_ready(running: RunningOptOut) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        assert running.process.poll() is None, running.log
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{running.ops}/ops/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready: {running.log}")
