"""Runs an enclave's root file system on any Linux machine: bubblewrap, the filter of calls, a simulated /dev/sgx.

It shows that the programs run within Occlum's limits. It protects nothing: whoever owns the machine sees everything.
"""

import array
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from uid2.attestation.quote import REPORT_DATA_LENGTH
from uid2.packaging.held_calls import HeldCalls, QuoteOf
from uid2.packaging.occlum_config import ALLOWED_ENVIRONMENT
from uid2.packaging.seccomp_filter import call_name, filter_program, known_refusals
from uid2.protocol.errors import ConfigurationError, DependencyError

SIMULATED: Final = "SIMULATED: this runs outside of any enclave; it protects nothing"
NOT_ALLOWED: Final = 126
_INTERPRETERS: Final = ("opt/python/bin/python3", "bin/python3", "usr/bin/python3")
_HOST_FILES: Final = ("etc/resolv.conf", "etc/hosts", "etc/hostname")
_LISTENER_SECONDS: Final = 20.0
_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


@dataclass(frozen=True, slots=True)
class SandboxedProgram:
    """What to run: `command` begins with an entry point. `writable` are folders inside that lie in memory."""

    root: Path
    settings: Mapping[str, Any]
    command: tuple[str, ...]
    host_environment: Mapping[str, str]
    writable: tuple[str, ...] = ("/tmp",)  # noqa: S108 - inside
    interpreter: str | None = None
    trace: bool = False


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """`used` is empty without tracing. Names of calls, each with how often."""

    exit_code: int
    quotes: int
    used: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""

    @property
    def unexpected(self) -> tuple[str, ...]:
        """Refused calls that no known fallback stands for."""
        return tuple(sorted(set(self.refused) - set(known_refusals())))

    def lines(self) -> tuple[str, ...]:
        used = ", ".join(f"{name} {count}" for name, count in sorted(self.used.items()))
        refused = (f"  {name} {count}: {fallback_of(name)}" for name, count in sorted(self.refused.items()))
        return (*((f"calls used: {used}",) if used else ()), f"calls refused: {len(self.refused)}", *refused)


def fallback_of(name: str) -> str:
    known = known_refusals().get(name)
    return known[1] if known else "NO KNOWN FALLBACK"


def run_sandboxed(program: SandboxedProgram, quote_of: QuoteOf) -> SandboxReport:
    """Runs the program to its end, standard streams and signals passed on.

    ConfigurationError: an entry point that the settings do not allow, or a root that cannot run.
    DependencyError: no bubblewrap here, or the kernel gives no namespaces or filter.
    """
    _check_entry(program)
    quote_length = len(quote_of(bytes(REPORT_DATA_LENGTH)))
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = sandbox_command(program, theirs.fileno())
            child = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env={})
        with _passing_signals(child):
            listener = _listener(ours, child)
            if listener is None:
                return SandboxReport(child.wait(), 0, failure="the sandbox ended before its filter stood")
            held = HeldCalls(listener, quote_of, quote_length)
            thread = threading.Thread(target=held.serve, args=(lambda: child.poll() is not None,), name="held calls")
            thread.start()
            try:
                ours.sendall(b"go")
                code = child.wait()
            finally:
                thread.join()
                os.close(listener)
    return SandboxReport(
        exit_code=code if code >= 0 else 128 - code,
        quotes=held.quotes,
        used={call_name_used(number): count for number, count in held.used.items()},
        refused={call_name(number): count for number, count in held.refused.items()},
        failure=held.failure,
    )


def call_name_used(number: int) -> str:
    return "clone" if number == 56 else call_name(number)


def sandbox_command(program: SandboxedProgram, link: int) -> list[str]:
    """The command line of bubblewrap. DependencyError when it is not installed."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise DependencyError("no bubblewrap on this machine", next_step="apt-get install bubblewrap")
    root = program.root.resolve()
    command = [bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    command += ["--uid", "0", "--gid", "0", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    # A character device whose requests the filter hands to the runner.
    command += ["--dev-bind", "/dev/null", "/dev/sgx"]
    for name in _HOST_FILES:
        # As Occlum does it: names come from the host at each start.
        if root != Path("/") and (root / name).is_file() and Path("/", name).exists():
            command += ["--ro-bind", f"/{name}", f"/{name}"]
    for folder in program.writable:
        if (root / folder.lstrip("/")).is_dir():
            command += ["--tmpfs", folder]
    command += ["--chdir", "/", "--clearenv"]
    for name, value in sandbox_environment(program).items():
        command += ["--setenv", name, value]
    limits = program.settings.get("resource_limits", {}), program.settings.get("process", {})
    space, stack = size_of(limits[0].get("user_space_size", "0B")), size_of(limits[1].get("default_stack_size", "8MB"))
    source = files("uid2.packaging").joinpath("sandbox_entry.py").read_text()
    program_text = base64.b64encode(filter_program(trace=program.trace)).decode()
    command += ["--", _interpreter(program), "-I", "-c", source, program_text, str(link), str(space), str(stack)]
    return command + list(program.command)


def sandbox_environment(program: SandboxedProgram) -> dict[str, str]:
    """The trusted variables, and of the host's exactly those on the list."""
    env = program.settings.get("env", {})
    variables = dict(text.split("=", 1) for text in env.get("default", []))
    passed = [name for name in env.get("untrusted", []) if name in ALLOWED_ENVIRONMENT]
    return variables | {name: program.host_environment[name] for name in passed if program.host_environment.get(name)}


def size_of(text: str) -> int:
    """Bytes of a size such as `8MB`. ConfigurationError."""
    digits = text.rstrip("BKMGT")
    unit = text[len(digits) :]
    if not digits.isdigit() or unit not in _UNITS:
        raise ConfigurationError(f"Occlum.json: {text!r} is no size", next_step="write it as 64MB")
    return int(digits) * _UNITS[unit]


def _check_entry(program: SandboxedProgram) -> None:
    allowed = program.settings.get("entry_points", [])
    entry = program.command[0] if program.command else ""
    if entry not in allowed:
        raise ConfigurationError(
            f"{entry or 'nothing'} is no entry point of this enclave", next_step=f"run one of: {', '.join(allowed)}"
        )
    target = program.root / entry.lstrip("/")
    if not target.exists() and not target.is_symlink():
        raise ConfigurationError(f"the root file system has no {entry}", next_step="build it again")


def _interpreter(program: SandboxedProgram) -> str:
    found = program.interpreter or next(
        (f"/{name}" for name in _INTERPRETERS if (program.root / name).exists() or (program.root / name).is_symlink()),
        None,
    )
    if found is None:
        raise ConfigurationError("the root file system has no Python interpreter", next_step="build it again")
    return found


def _listener(link: socket.socket, child: "subprocess.Popen[bytes]") -> int | None:
    """The descriptor that the sandbox sends; None when it ends before."""
    link.settimeout(_LISTENER_SECONDS)
    try:
        data, ancillary, _, _ = link.recvmsg(8, socket.CMSG_SPACE(4))
    except TimeoutError:
        child.kill()
        raise DependencyError("the sandbox does not start", next_step="try again with less load") from None
    link.settimeout(None)
    for level, kind, content in ancillary:
        if data and level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors = array.array("i")
            descriptors.frombytes(content[:4])
            return descriptors[0]
    if child.wait() != 0:
        raise DependencyError(
            f"the sandbox did not start (code {child.returncode})",
            next_step="read its message above; it needs unprivileged user namespaces and a kernel of 5.0 or newer",
        )
    return None


@contextmanager
def _passing_signals(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """SIGINT and SIGTERM end the sandbox as `occlum run` ends: at once."""

    def end(number: int, _: object) -> None:
        child.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def writable_folders(root: Path) -> tuple[str, ...]:
    """Folders inside that lie in memory: /tmp, and the local opt-out data of the configuration that is baked in."""
    try:
        members = json.loads((root / "app/conf/config.json").read_bytes())
        folder = members.get("optout_data_dir") if isinstance(members, dict) else None
    except (OSError, ValueError):
        folder = None
    local = (folder,) if isinstance(folder, str) and folder.startswith("/") and ".." not in folder.split("/") else ()
    return ("/tmp", *local)  # noqa: S108 - inside


def occlum_words(words: Sequence[str]) -> tuple[str, ...]:
    """The program of `occlum run PROGRAM …`; no words mean the operator itself."""
    rest = list(words)
    if rest[:2] == ["occlum", "run"]:
        rest = rest[2:]
    return tuple(rest) or ("/bin/launcher",)
