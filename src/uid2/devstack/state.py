"""The state folder of a development stack.

DIR/stores-<scope>/               Core's bucket: demo stores, made once, kept across restarts
DIR/stores-<scope>/credentials.json   client key and secret, mode 0600
DIR/stores-<scope>/programs.json      keys of the operators and of the opt-out service, mode 0600
DIR/core-<scope>/                 configuration, JWT key and log of Core
DIR/optout-<scope>/                configuration, queue, bucket and log of the opt-out service
DIR/operator-<scope>-<n>/         configuration, log and local opt-out data of operator n
DIR/running.json                  addresses of the running stack; absent when nothing runs
DIR/lock                          held by the running stack
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from uid2.devstack.demo_data import DemoCredentials, create_demo_stores
from uid2.devstack.demo_programs import ProgramKeys, create_program_stores
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochMillis

DEFAULT_STATE: Final = Path(".uid2")
CREDENTIALS: Final = "credentials.json"
PROGRAMS: Final = "programs.json"
RUNNING: Final = "running.json"
LOCK: Final = "lock"
SALTS_NOTE: Final = "salts.count"
DEFAULT_SALTS: Final = 1000


class Running(msgspec.Struct, frozen=True):
    """What a running stack offers; `pid` is the process of `uid2 up`, `quoting` the socket of its simulated TEE."""

    pid: int
    operators: list[str]
    identity_scope: str
    core: str
    optout: str
    quoting: str = ""


@dataclass(frozen=True, slots=True)
class State:
    directory: Path
    stores: Path
    credentials: DemoCredentials
    programs: ProgramKeys


def open_state(
    directory: Path,
    *,
    salts: int | None,
    scope: str,
    now: EpochMillis,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> State:
    """The state in `directory`, its stores made when they are not there yet.

    Stores appear whole or not at all: they are written beside their place and renamed into it. `salts` (none:
    `DEFAULT_SALTS`) counts only for new stores; another number for existing ones is refused, because raw UIDs would
    change under their users.
    """
    directory = directory.resolve()
    stores = directory / f"stores-{scope}"
    wanted = DEFAULT_SALTS if salts is None else salts
    if not stores.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".stores-", dir=directory))
        try:
            credentials = create_demo_stores(fresh, salts=wanted, draw=draw, now=now, scope=scope)
            programs = create_program_stores(fresh, draw=draw, now=now, scope=scope)
            write_private(fresh / CREDENTIALS, msgspec.json.encode(credentials))
            write_private(fresh / PROGRAMS, msgspec.json.encode(programs))
            (fresh / SALTS_NOTE).write_text(f"{wanted}\n", encoding="ascii")
            fresh.rename(stores)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    kept = int((stores / SALTS_NOTE).read_text(encoding="ascii"))
    if salts is not None and kept != salts:
        raise ConfigurationError(
            f"the stores in {stores} hold {kept} salts, not {salts}",
            next_step=f"leave --salts out to use them, name another folder with --state, or remove {stores}",
        )
    state = State(directory, stores, read_credentials(directory, scope), _read_programs(stores))
    if state.credentials.expires <= now // 1000:
        raise ConfigurationError(
            f"the demo keys in {stores} have expired", next_step=f"remove {stores}; the next start makes new ones"
        )
    return state


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One stack a folder; ConfigurationError when another holds it. The kernel lets go when the process ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / LOCK).open("wb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"another stack is running from {directory}", next_step="stop it, or name another folder with --state"
            ) from None
        yield


def read_credentials(directory: Path, scope: str = "uid2") -> DemoCredentials:
    path = directory / f"stores-{scope}" / CREDENTIALS
    try:
        return msgspec.json.decode(path.read_bytes(), type=DemoCredentials)
    except FileNotFoundError:
        raise ConfigurationError(
            f"there are no demo credentials in {directory}",
            next_step="start a stack with `uid2 up`, or give --url, --key and --secret",
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}", next_step=f"remove {path.parent}; the next `uid2 up` makes a new one"
        ) from None


def _read_programs(stores: Path) -> ProgramKeys:
    path = stores / PROGRAMS
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProgramKeys)
    except (FileNotFoundError, msgspec.DecodeError):
        raise ConfigurationError(
            f"{stores} holds no keys of operators that can be read",
            next_step=f"remove {stores}; the next start makes new stores",
        ) from None


def read_running(directory: Path) -> Running:
    path = directory / RUNNING
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        raise ConfigurationError(
            f"no stack is running from {directory}", next_step="start one with `uid2 up`, or give --url"
        ) from None


@contextlib.contextmanager
def announced(directory: Path, running: Running) -> Iterator[None]:
    """`running.json` stands for as long as the block runs."""
    path = directory / RUNNING
    write_private(path, msgspec.json.encode(running))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` whole; only its owner may read it."""
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data)
    beside.replace(path)


def keyset_keys_file(directory: Path) -> Path:
    """The file with every keyset key of the state's newest stores; for `uid2 inspect`, which plays the operator."""
    scope = read_running(directory).identity_scope if (directory / RUNNING).exists() else "uid2"
    return directory / f"stores-{scope}" / "keyset_keys" / "keyset_keys.json"
