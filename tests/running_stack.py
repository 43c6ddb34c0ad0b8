"""A development stack for tests: `uid2 up --json` in a process of its own, on ports nobody uses."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uid2.client.operator import OperatorClient

PORTS = (8080, 8081, 8082, 8088, 9080, 9081, 9088, 9091)
READY_SECONDS = 120
REFUSAL_SECONDS = 60
# Below the ports that the system gives to connections, so that none of those takes a port that is free now.
OFFSETS = range(2000, 23000, 37)
# Test processes have neighbouring ids; those that search at the same time start far apart.
SPREAD = 101


@dataclass(frozen=True)
class Stack:
    url: str
    key: str
    secret: str
    site_id: int
    state: Path
    scope: str
    offset: int
    banner: dict[str, Any]
    log: Path

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{9080 + self.offset}"


def free_offset(count: int = 1, ports: Sequence[int] = PORTS) -> int:
    """A port offset whose ports, for `count` operators, are free now; the start depends on the process."""
    start = os.getpid() * SPREAD % len(OFFSETS)
    for turn in range(len(OFFSETS)):
        offset = OFFSETS[(start + turn) % len(OFFSETS)]
        if all(_free(port + offset + 10 * n) for port in ports for n in range(count)):
            return offset
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def refuses(client: OperatorClient, email: str) -> bool:
    return client.generate({"email": email}).status == "optout"


def await_refusal(client: OperatorClient, email: str) -> None:
    end = time.monotonic() + REFUSAL_SECONDS
    while not refuses(client, email):
        assert time.monotonic() < end, "the opt-out did not arrive"
        time.sleep(0.01)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "uid2.cli.main", *words]


@contextlib.contextmanager
def running_stack(state: Path, *, scope: str = "uid2", salts: int = 1000, operators: int = 1) -> Iterator[Stack]:
    """Start, wait for the JSON banner, yield, stop; fails with the operator's log when there is no banner."""
    offset = free_offset(operators)
    words = ["--state", str(state), "--scope", scope, "--salts", str(salts), "--operators", str(operators), "--json"]
    process = subprocess.Popen(
        command("up", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "port_offset": str(offset)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"no banner: {process.stderr.read()}")
        banner = json.loads(line)
        yield Stack(
            url=banner["operator"],
            key=banner["client_key"],
            secret=banner["client_secret"],
            site_id=banner["site_id"],
            state=state,
            scope=scope,
            offset=offset,
            banner=banner,
            log=state / f"operator-{scope}-0" / "operator.log",
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
