"""Which opt-out service `uid2 admin optout` works on: a bucket, a service's configuration, or the development stack."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import typer

from uid2.cli.target import DEFAULT_STATE
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.secret import Secret

if TYPE_CHECKING:
    from uid2.devstack.state import Running
    from uid2.optout.bucket import Bucket
    from uid2.optout.listing import ListedFile
    from uid2.optout.settings import OptOutSettings

HOST: Final = "127.0.0.1"
DEFAULT_FOLDER: Final = "optout/"
SERVICE_PORT: Final = 8081
OPS_PORT: Final = 9081
TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class OptOutChoice:
    """What the options name; empty where they name nothing."""

    bucket: str = ""
    folder: str = ""
    config: Path | None = None
    state: Path = DEFAULT_STATE

    def place(self) -> "OptOutPlace":
        """ConfigurationError when nothing is named and no development stack was ever started."""
        from uid2.optout.assembly import optout_bucket
        from uid2.optout.bucket import open_bucket

        if self.bucket:
            _check_folder(self.bucket)
            folder = _with_slash(self.folder or DEFAULT_FOLDER)
            return OptOutPlace(open_bucket(self.bucket, {}), folder, f"{folder}manual-override.json")
        running = None if self.config is not None else _running(self.state)
        settings = _settings(self.config or _stack_config(self.state))
        _check_folder(settings.optout_s3_bucket or "")
        return OptOutPlace(
            optout_bucket(settings),
            _with_slash(self.folder) if self.folder else settings.optout_s3_folder,
            settings.manual_override_s3_path,
            settings=settings,
            service=_service_address(settings, running),
            internal_token=settings.optout_internal_api_token,
        )


@dataclass(frozen=True, slots=True)
class OptOutPlace:
    """`service` is the address of the running service, without a slash; None when it is not known."""

    bucket: "Bucket"
    folder: str
    override_path: str
    settings: "OptOutSettings | None" = None
    service: str | None = None
    internal_token: Secret | None = field(default=None, repr=False)

    @property
    def control(self) -> str | None:
        """The address of the control port: the main one and 1."""
        return _on_port(self.service, 1)

    @property
    def ops(self) -> str | None:
        return _on_port(self.service, OPS_PORT - SERVICE_PORT)

    def listing(self) -> "tuple[tuple[ListedFile, ...], list[str]]":
        """Every opt-out file, oldest first, synthetic ones included, and the paths of foreign files."""
        from uid2.optout.listing import folders, listed_files

        foreign: list[str] = []
        paths = [path for prefix in folders(self.folder, synthetic=True) for path in self.bucket.list(prefix)]
        return listed_files(paths, foreign.append), foreign

    def files(self) -> "tuple[ListedFile, ...]":
        return self.listing()[0]

    def waiting(self) -> int | None:
        """How many opt-outs are in no file yet; None where the service does not answer."""
        queue = (fetched(self.ops, "/ops/status") or {}).get("queue")
        waiting = queue.get("waiting") if isinstance(queue, dict) else None
        return waiting if isinstance(waiting, int) else None


def choice_of(context: typer.Context) -> OptOutChoice:
    found = context.find_object(OptOutChoice)
    assert found is not None, "the callback of `uid2 admin optout` makes it"
    return found


def place_of(context: typer.Context) -> OptOutPlace:
    return choice_of(context).place()


def say(text: str) -> None:
    """A sentence for people, on standard error so that what is printed stays readable for programs."""
    typer.echo(text, err=True)


def iso(seconds: int) -> str:
    from uid2.cli.layout import moment

    return moment(seconds * 1000)


def now_seconds() -> EpochSeconds:
    return EpochSeconds(time.time_ns() // 1_000_000_000)


def _settings(file: Path) -> "OptOutSettings":
    from uid2.optout.settings import ACCEPTED, KEYS, settings_of
    from uid2.service.config import load_configuration

    return settings_of(load_configuration(KEYS, file, os.environ, accepted=ACCEPTED))


def stack_scopes(state: Path) -> tuple[str, ...]:
    """The scope of the running development stack, else those that its folder may hold."""
    running = _running(state)
    return ("uid2", "euid") if running is None else (running.identity_scope,)


def _stack_config(state: Path) -> Path:
    """The configuration that `uid2 up` wrote for its opt-out service."""
    from uid2.protocol.errors import ConfigurationError

    for scope in stack_scopes(state):
        file = state / f"optout-{scope}" / "config.json"
        if file.exists():
            return file
    raise ConfigurationError(
        f"no opt-out service is named, and {state} holds none of a development stack",
        next_step="give --bucket URL or --config FILE after `uid2 admin optout`, or start a stack with `uid2 up`",
    )


def _running(state: Path) -> "Running | None":
    from uid2.devstack.state import read_running
    from uid2.protocol.errors import ConfigurationError

    try:
        return read_running(state)
    except ConfigurationError:
        return None


def _service_address(settings: "OptOutSettings", running: "Running | None") -> str:
    """This machine's own address of the service: the public one may lead through somebody else's machine."""
    if running is not None:
        return running.optout.rstrip("/")
    host = settings.http_host if settings.http_host not in ("", "0.0.0.0", "::") else HOST  # noqa: S104 - compared
    return f"http://{host}:{settings.service_port}"


def _check_folder(url: str) -> None:
    """A folder that is not there is a mistyped name: nothing here shall make it."""
    from uid2.protocol.errors import ConfigurationError

    folder = Path(unquote(urlsplit(url).path))
    if url.startswith("file://") and not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", next_step="check the address of the bucket")


def _with_slash(folder: str) -> str:
    return folder if not folder or folder.endswith("/") else folder + "/"


def _on_port(address: str | None, distance: int) -> str | None:
    """The address with its port moved by `distance`; None where it names no port."""
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.port is None:
        return None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port + distance}"))


def fetched(address: str | None, path: str, token: str | None = None) -> dict[str, Any] | None:
    """The JSON object at an address of the service; None when there is none."""
    import httpx
    import msgspec

    if address is None:
        return None
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        answer = httpx.get(address + path, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        document = msgspec.json.decode(answer.content) if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError):
        return None
    return document if isinstance(document, dict) else None
