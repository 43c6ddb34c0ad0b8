"""The development stack on loopback: simulated TEE ─▶ Core, OptOut ─▶ attested operators ─▶ one banner."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from uid2.devstack.banner import json_banner, text_banner
from uid2.devstack.children import PROGRAM, Child, Children
from uid2.devstack.configurations import (
    JWT_KEY,
    RECORD,
    ROOT,
    Addresses,
    SharedSecrets,
    core_config,
    identity_record,
    operator_config,
    optout_config,
)
from uid2.devstack.demo_programs import create_jwt_key, public_half, register_enclave
from uid2.devstack.ports import (
    CORE_OPS_PORT,
    CORE_PORT,
    HOST,
    OPERATOR_OPS_PORTS,
    OPERATOR_PORT,
    OPTOUT_OPS_PORT,
    OPTOUT_PORT,
    PORT_STEP,
    port_offset,
    ports_of,
    require_free_ports,
)
from uid2.devstack.simulated_tee import SimulatedTee, simulated_tee
from uid2.devstack.state import Running, State, alone, announced, open_state, write_private
from uid2.devstack.store_check import check_stores
from uid2.devstack.verdicts import verdicts
from uid2.protocol.ids import EpochMillis, EpochSeconds

FOLDER_MODE: Final = 0o700


def run_stack(
    directory: Path,
    *,
    salts: int | None,
    operators: int,
    scope: str,
    as_json: bool,
    enclave: Path | None = None,
    program: Sequence[str] = PROGRAM,
) -> int:
    """Start everything, print the banner, stay until a signal or the end of a child; returns the exit code.

    `enclave` is the identity record of a build that Core accepts too.
    `program` starts a service; the words `<service> serve --config FILE` follow.

    ConfigurationError when a port is taken or the state does not fit, DependencyError when a service does not get
    ready; both name the next step.
    """
    offset = port_offset(os.environ.get("port_offset", "0"))  # noqa: SIM112 - the documented name
    require_free_ports(ports_of(offset, operators))
    stop = threading.Event()
    now = EpochMillis(time.time_ns() // 1_000_000)
    with (
        alone(directory),
        _stopping_signals(stop),
        simulated_tee(HOST, EpochSeconds(now // 1000)) as tee,
        contextlib.ExitStack() as stack,
    ):
        state = open_state(directory, salts=salts, scope=scope, now=now)
        if enclave is not None:
            register_enclave(state.stores, enclave, now)
        check_stores(state.stores, now)
        children = Children(stop, program)
        stack.callback(children.stop_all)
        at = Addresses(HOST, f"http://{HOST}:{CORE_PORT + offset}", f"http://{HOST}:{OPTOUT_PORT + offset}")
        shared = SharedSecrets.new()
        core = _start_core(children, state, offset, at, shared, tee)
        optout = _start_optout(children, state, offset, at, shared)
        for service in (core, optout):
            status = children.await_ready(service)
            if status is not None:
                return status
        started = [_start_operator(children, state, n, offset, at, tee) for n in range(operators)]
        for child in started:
            status = children.await_ready(child)
            if status is not None:
                return status
        running = Running(
            pid=os.getpid(),
            operators=[child.url for child in started],
            identity_scope=scope,
            core=at.core,
            optout=at.optout,
            quoting=str(tee.socket),
        )
        stack.enter_context(announced(state.directory, running))
        text = (
            json_banner(state, running)
            if as_json
            else text_banner(state, running, started[0].ops_url if started else None, verdicts(core.log), core.log)
        )
        print(text, flush=True)
        return children.await_end()


def _start_core(
    children: Children, state: State, offset: int, at: Addresses, shared: SharedSecrets, tee: SimulatedTee
) -> Child:
    folder = _core_folder(state)
    write_private(folder / ROOT, tee.root_pem.encode())
    config = core_config(state, folder, at, shared, tee)
    return children.start("core", folder, config, offset, at.core, f"http://{HOST}:{CORE_OPS_PORT + offset}")


def _start_optout(children: Children, state: State, offset: int, at: Addresses, shared: SharedSecrets) -> Child:
    folder = _folder(state, "optout")
    (folder / "bucket").mkdir(mode=FOLDER_MODE, exist_ok=True)
    public_key = public_half((_core_folder(state) / JWT_KEY).read_bytes())
    config = optout_config(state, folder, at, shared, public_key)
    return children.start("optout", folder, config, offset, at.optout, f"http://{HOST}:{OPTOUT_OPS_PORT + offset}")


def _start_operator(
    children: Children, state: State, number: int, offset: int, at: Addresses, tee: SimulatedTee
) -> Child:
    folder = state.directory / f"operator-{state.credentials.identity_scope}-{number}"
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    write_private(folder / RECORD, identity_record())
    shift = offset + PORT_STEP * number
    return children.start(
        "operator",
        folder,
        operator_config(state, folder, at, number, tee),
        shift,
        f"http://{HOST}:{OPERATOR_PORT + shift}",
        f"http://{HOST}:{OPERATOR_OPS_PORTS[0] + shift}",
    )


def _core_folder(state: State) -> Path:
    """With Core's JWT key in it."""
    folder = _folder(state, "core")
    if not (folder / JWT_KEY).exists():
        write_private(folder / JWT_KEY, create_jwt_key())
    return folder


def _folder(state: State, service: str) -> Path:
    folder = state.directory / f"{service}-{state.credentials.identity_scope}"
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return folder


@contextlib.contextmanager
def _stopping_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the stack in order instead of raising."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
