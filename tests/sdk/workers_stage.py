"""An operator with two workers on demo stores of its own, and what tests do to it."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running_stack import command, free_offset
from uid2.devstack.demo_data import DemoCredentials
from uid2.devstack.state import open_state
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import open_response, seal_request
from uid2.protocol.ids import EpochMillis

SECONDS = 60.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def now_ms() -> EpochMillis:
    return EpochMillis(time.time_ns() // 1_000_000)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@dataclass
class WorkersOperator:
    process: subprocess.Popen[bytes]
    offset: int
    credentials: DemoCredentials
    stores: Path
    log: Path

    @property
    def optouts(self) -> Path:
        """Its `optout_data_dir`."""
        return self.log.parent / "optout"

    @property
    def port(self) -> int:
        return 8080 + self.offset

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ops(self, path: str) -> bytes:
        with _direct.open(f"http://127.0.0.1:{9080 + self.offset}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def workers(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ops("/ops/status"))["workers"]
        return found

    def call(self, path: str, document: object) -> Any:
        """A sealed request on a connection of its own: any worker may take it."""
        gcm = GcmKey(decode_base64(self.credentials.client_secret))
        sealed = seal_request(json.dumps(document).encode(), secrets.token_bytes(8), now_ms(), gcm, os.urandom(12))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {self.credentials.client_key}"}
            connection.request("POST", path, encode_base64(sealed).encode(), headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (answer.status, body)
            return json.loads(open_response(decode_base64(body), gcm).payload)
        finally:
            connection.close()

    @contextlib.contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Inside, no other worker takes a connection."""
        others = [other for other in self.workers()["pids"] if other != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def everywhere(self, ask: Callable[[], Any]) -> list[Any]:
        """The answer of each worker."""
        answers = []
        for pid in self.workers()["pids"]:
            with self.only(pid):
                answers.append(ask())
        return answers

    def counted(self, metric: str, **labels: str) -> float:
        total = 0.0
        for line in self.ops("/metrics").decode().splitlines():
            name, _, rest = line.partition("{")
            if name == metric and all(f'{label}="{value}"' in rest for label, value in labels.items()):
                total += float(rest.rpartition(" ")[2])
        return total

    def shared_folders(self) -> set[str]:
        """The memory folders that the processes of this operator map."""
        found = set()
        for pid in (self.process.pid, *self.workers()["pids"]):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "/uid2-" in line and "/stores/salts." in line:
                    found.add(line.split()[-1].rpartition("/stores/")[0])
        return found


@contextlib.contextmanager
def operator_with_workers(folder: Path, **members: object) -> Iterator[WorkersOperator]:
    state = open_state(folder / "state", salts=1000, scope="uid2", now=now_ms(), draw=secrets.token_bytes)
    config, log, offset = folder / "config.json", folder / "operator.log", free_offset()
    documented: dict[str, object] = {
        "environment": "development",
        "storage_mock": True,
        "storage_mock_root": str(state.stores),
        "enable_remote_config": True,
        "client_side_token_generate": True,
        "validate_service_links": True,
        "optout_data_dir": str(folder / "optout"),
        "http_host": "127.0.0.1",
        "worker_processes": 2,
        "config_scan_period_ms": 200,
        "salt_refresh_ms": 200,
        "cloud_refresh_interval": 1,
    }
    config.write_text(json.dumps(documented | members))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("operator", "serve", "--config", str(config)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "port_offset": str(offset)},
        )
    operator = WorkersOperator(process, offset, state.credentials, state.stores, log)
    try:
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                operator.ops("/ops/ready")
                break
            time.sleep(0.05)
        else:
            raise AssertionError(log.read_text())
        yield operator
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
