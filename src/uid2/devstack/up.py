"""The development stack on loopback: operators on demo stores, one banner when all of them are ready.

Operator n (from 0) listens on 8080 + 10 n, its ops listener on 9080 + 10 n and 9091 + 10 n, everything shifted by
the environment variable `port_offset`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from uid2.devstack.banner import json_banner, text_banner
from uid2.devstack.operator_config import operator_config
from uid2.devstack.state import Running, State, announced, open_state, write_private
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.ids import EpochMillis

HOST: Final = "127.0.0.1"
SERVICE_PORT: Final = 8080
OPS_PORTS: Final = (9080, 9091)
PORT_STEP: Final = 10
MOST_OPERATORS: Final = 50
READY_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.1
STOP_SECONDS: Final = 15.0
LOG_TAIL_LINES: Final = 20
PR_SET_PDEATHSIG: Final = 1
SERVE: Final = (sys.executable, "-m", "uid2.cli.main", "operator", "serve", "--config")


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    process: subprocess.Popen[bytes]
    url: str
    ops_url: str
    log: Path

    def log_tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def run_stack(
    directory: Path,
    *,
    salts: int | None,
    operators: int,
    scope: str,
    as_json: bool,
    serve: Sequence[str] = SERVE,
) -> int:
    """Start everything, print the banner, stay until a signal or the end of a child; returns the exit code.

    `serve` starts one operator; the path of its configuration follows.

    ConfigurationError when a port is taken or the state does not fit, DependencyError when an operator does not get
    ready; both name the next step.
    """
    offset = port_offset(os.environ.get("port_offset", "0"))  # noqa: SIM112 - the documented name
    offsets = [offset + PORT_STEP * n for n in range(operators)]
    for shift in offsets:
        require_free_ports(shift)
    stop = threading.Event()
    state = open_state(directory, salts=salts, scope=scope, now=EpochMillis(time.time_ns() // 1_000_000))
    with _stopping_signals(stop), contextlib.ExitStack() as stack:
        children = [_start(stack, state, n, shift, serve) for n, shift in enumerate(offsets)]
        for child in children:
            status = _await_ready(child, children, stop)
            if status is not None:
                return status
        running = Running(pid=os.getpid(), operators=[child.url for child in children], identity_scope=scope)
        stack.enter_context(announced(state.directory, running))
        print(json_banner(state, running) if as_json else text_banner(state, running, children[0].ops_url), flush=True)
        while not stop.wait(POLL_SECONDS):
            status = _first_exit(children)
            if status is not None:
                return status
    return 0


def port_offset(text: str) -> int:
    """The value of the environment variable `port_offset`."""
    try:
        offset = int(text)
    except ValueError:
        offset = -1
    if not 0 <= offset <= 65_535 - max(OPS_PORTS) - PORT_STEP * MOST_OPERATORS:
        raise ConfigurationError(
            "the environment variable port_offset is not a port distance",
            next_step="set it to a number from 0 to 50000",
        )
    return offset


def require_free_ports(shift: int) -> None:
    """ConfigurationError when one of an operator's ports on loopback is taken."""
    for port in (SERVICE_PORT + shift, *(port + shift for port in OPS_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise ConfigurationError(
                    f"port {port} is already in use",
                    next_step=f"stop the program that holds it (`ss -ltnp 'sport = :{port}'` names it), "
                    "or shift every port: `port_offset=1000 uid2 up`",
                ) from None


def _start(stack: contextlib.ExitStack, state: State, number: int, shift: int, serve: Sequence[str]) -> OperatorProcess:
    folder = state.directory / f"operator-{state.credentials.identity_scope}-{number}"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "config.json"
    write_private(config, json.dumps(operator_config(state, folder), indent=1).encode())
    log = folder / "operator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*serve, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "port_offset": str(shift)},
            process_group=0,  # Ctrl-C reaches this process alone, which then stops its children in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    stack.callback(_stop, process)
    return OperatorProcess(
        process=process,
        url=f"http://{HOST}:{SERVICE_PORT + shift}",
        ops_url=f"http://{HOST}:{OPS_PORTS[0] + shift}",
        log=log,
    )


def _die_with_parent() -> None:
    """Asks the kernel for SIGTERM when `uid2 up` itself is killed, so that no operator is left behind."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _await_ready(child: OperatorProcess, children: list[OperatorProcess], stop: threading.Event) -> int | None:
    """None when the operator is ready, else the exit code to end with."""
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(timeout=2.0, trust_env=False) as http:
        while time.monotonic() < deadline:
            status = _first_exit(children)
            if status is not None:
                return status
            with contextlib.suppress(httpx.HTTPError):
                if http.get(f"{child.ops_url}/ops/ready").status_code == httpx.codes.OK:
                    return None
            if stop.wait(POLL_SECONDS):
                return 0
    raise DependencyError(f"the operator did not get ready within {READY_SECONDS:.0f} s", next_step=f"read {child.log}")


def _first_exit(children: list[OperatorProcess]) -> int | None:
    for child in children:
        status = child.process.poll()
        if status is not None:
            print(f"the operator at {child.url} ended with status {status}; the end of {child.log}:", file=sys.stderr)
            print(child.log_tail(), file=sys.stderr)
            return status if status > 0 else 1
    return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _stopping_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the stack in order instead of raising."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
