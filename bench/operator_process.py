"""An operator in a process of its own, on freshly generated demo stores."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uid2.devstack.demo_data import DemoCredentials
from uid2.devstack.state import State, open_state
from uid2.protocol.ids import EpochMillis

PORTS = (8080, 9080, 9091)
READY_SECONDS = 300.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class OperatorUnderLoad:
    """`port` is the service port on loopback; `pid` the process that was started."""

    pid: int
    port: int
    credentials: DemoCredentials
    seconds_to_ready: float
    peak_bytes: int


@contextlib.contextmanager
def fresh_state(salts: int) -> Iterator[State]:
    """Demo stores that disappear at the end."""
    directory = Path(tempfile.mkdtemp(prefix="uid2-bench-"))
    try:
        yield open_state(
            directory, salts=salts, scope="uid2", now=EpochMillis(time.time_ns() // 1_000_000), draw=secrets.token_bytes
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def alone_on(state: State, folder: Path) -> dict[str, object]:
    """The configuration of an operator that reads the demo stores itself; what is measured is the operator."""
    return {
        "environment": "development",
        "identity_scope": state.credentials.identity_scope,
        "storage_mock": True,
        "storage_mock_root": str(state.stores),
        "enable_remote_config": True,
        "client_side_token_generate": True,
        "validate_service_links": True,
        "optout_status_api_enabled": True,
        "optout_data_dir": str(folder / "optout"),
        "optout_s3_folder": "optout/",
        "uid_instance_id_prefix": "local-operator",
        "http_host": "127.0.0.1",
    }


@contextlib.contextmanager
def serving(state: State, environment: dict[str, str] | None = None) -> Iterator[OperatorUnderLoad]:
    """Started, ready and at the end stopped; fails with the end of its log when it does not get ready."""
    folder = state.directory / "operator"
    folder.mkdir(exist_ok=True)
    config, log = folder / "config.json", folder / "operator.log"
    config.write_text(json.dumps(alone_on(state, folder)), encoding="utf-8")
    offset = free_offset()
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uid2.cli.main", "operator", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {}), "port_offset": str(offset)},
        )
    try:
        peak = _await_ready(process, 9080 + offset, log)
        yield OperatorUnderLoad(process.pid, 8080 + offset, state.credentials, time.perf_counter() - begin, peak)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def proportional_bytes(pid: int) -> int:
    """Proportional set size of a process and its children; 0 for one that is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(proportional_bytes(int(child)) for child in children)


def highest_resident_bytes(pid: int) -> int:
    """The highest resident set of one process since its start."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> int:
    """The highest proportional set size seen meanwhile."""
    deadline = time.monotonic() + READY_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    peak = 0
    while process.poll() is None and time.monotonic() < deadline:
        peak = max(peak, proportional_bytes(process.pid))
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/ops/ready", timeout=2) as answer:
            if answer.status == 200:
                return peak
        time.sleep(POLL_SECONDS)
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
    raise RuntimeError("the operator did not get ready:\n" + "\n".join(tail))


def free_offset(ports: Sequence[int] = PORTS) -> int:
    """A distance at which all these ports are free, and below those that the system gives to connections."""
    for offset in range(12_000 + os.getpid() % 5_000, 23_000, 7):
        if all(_free(port + offset) for port in ports):
            return offset
    raise RuntimeError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
