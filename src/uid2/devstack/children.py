"""The programs of a development stack as child processes: start, readiness, the first end, the stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from uid2.devstack.state import write_private
from uid2.protocol.errors import DependencyError
from uid2.stores.tls import trusted_roots

READY_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.1
STOP_SECONDS: Final = 15.0
LOG_TAIL_LINES: Final = 20
PR_SET_PDEATHSIG: Final = 1
PROGRAM: Final = (sys.executable, "-m", "uid2.cli.main")


@dataclass(frozen=True, slots=True)
class Child:
    """`name` is what people call it; `url` its service, `ops_url` its ops listener."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    ops_url: str
    log: Path

    def log_tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


class Children:
    """Children of this process; `program` starts one: the words `<service> serve --config FILE` follow."""

    def __init__(self, stop: threading.Event, program: Sequence[str] = PROGRAM) -> None:
        self._stop = stop
        self._program = program
        self._die_with_parent = _death_signal() if sys.platform == "linux" else None
        self.all: list[Child] = []

    def start(
        self, service: str, folder: Path, config: Mapping[str, object], offset: int, url: str, ops_url: str
    ) -> Child:
        """Write the configuration into `folder` and start `uid2 <service> serve` with it."""
        file, log = folder / "config.json", folder / f"{service}.log"
        write_private(file, json.dumps(config, indent=1).encode())
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._program, service, "serve", "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "port_offset": str(offset)},
                process_group=0,  # Ctrl-C reaches this process alone, which then stops its children in order
                preexec_fn=self._die_with_parent,
            )
        child = Child(service, process, url, ops_url, log)
        self.all.append(child)
        return child

    def await_ready(self, child: Child) -> int | None:
        """None when the child is ready, else the exit code to end with. DependencyError when it takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(verify=trusted_roots(), timeout=2.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                status = self.first_exit()
                if status is not None:
                    return status
                with contextlib.suppress(httpx.HTTPError):
                    if http.get(f"{child.ops_url}/ops/ready").status_code == httpx.codes.OK:
                        return None
                if self._stop.wait(POLL_SECONDS):
                    return 0
        raise DependencyError(
            f"the {child.name} did not get ready within {READY_SECONDS:.0f} s", next_step=f"read {child.log}"
        )

    def await_end(self) -> int:
        """Returns the exit code of the stack: 0 after a signal, else that of the first child that ended."""
        while not self._stop.wait(POLL_SECONDS):
            status = self.first_exit()
            if status is not None:
                return status
        return 0

    def first_exit(self) -> int | None:
        for child in self.all:
            status = child.process.poll()
            if status is not None:
                print(
                    f"the {child.name} at {child.url} ended with status {status}; the end of {child.log}:",
                    file=sys.stderr,
                )
                print(child.log_tail(), file=sys.stderr)
                return status if status > 0 else 1
        return None

    def stop_all(self) -> None:
        """The last one started stops first; those of one service at the same time."""
        services = list(dict.fromkeys(child.name for child in reversed(self.all)))
        for service in services:
            processes = [child.process for child in self.all if child.name == service]
            for process in processes:
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _death_signal() -> Callable[[], None]:
    """Asks the kernel for SIGTERM when `uid2 up` itself is killed, so that no child is left behind.

    Everything is looked up here: between fork and exec no lock of another thread may be needed.
    """
    import ctypes

    prctl, number = ctypes.CDLL(None).prctl, int(signal.SIGTERM)

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number)

    return ask
