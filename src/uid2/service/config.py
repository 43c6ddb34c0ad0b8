"""Layered configuration (operator API chapter, 15.1; core chapter, 1).

Later layers win: the defaults of the keys, the default file, environment variables whose name is a known key, the
override file. A sealed configuration (`"sealed": true`) takes the two tokens alone from the environment and refuses
`port_offset`, other file locations and every `dangerous_…` key.
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import HIDDEN, Secret
from uid2.service.config_files import read_members

PORT_OFFSET: Final = "port_offset"
SEALED: Final = "sealed"
SEALED_ENVIRONMENT: Final = ("core_api_token", "optout_api_token")
GUARDED_ENVIRONMENTS: Final = ("prod", "integ")
DEFAULT_FILE_VARIABLE: Final = "VERTX_DEFAULT_CONFIG_PATH"
OVERRIDE_FILE_VARIABLE: Final = "VERTX_CONFIG_PATH"

_log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What a value must be; the value is how messages name it."""

    TEXT = "a text"
    INTEGER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    ANY = "any JSON value"


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One known key. `secret` masks its value wherever the configuration is printed."""

    name: str
    kind: Kind = Kind.TEXT
    default: Any = None
    secret: bool = False


class Configuration:
    """Checked values by key. The getters raise KeyError for a key that was not declared."""

    def __init__(self, members: Mapping[str, Any], keys: Mapping[str, ConfigKey], warnings: tuple[str, ...]) -> None:
        self._keys = keys
        self._members = dict(members)
        self.warnings = warnings

    @property
    def members(self) -> dict[str, Any]:
        """Every key that has a value, undeclared keys of the files included."""
        return dict(self._members)

    def get(self, name: str) -> Any:
        value = self._members.get(name)
        return self._keys[name].default if value is None else value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return None if value is None else str(value)

    def integer(self, name: str) -> int:
        return int(self._needed(name))

    def number(self, name: str) -> float:
        return float(self._needed(name))

    def boolean(self, name: str) -> bool:
        return bool(self.get(name))

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        return None if value is None else Secret(value.encode())

    @property
    def sealed(self) -> bool:
        return self._members.get(SEALED) is True

    def printable(self) -> dict[str, Any]:
        """The members with secrets masked; undeclared members are masked too: nobody knows what they hold."""
        return {
            name: value if name in self._keys and not self._keys[name].secret else HIDDEN
            for name, value in self._members.items()
        }

    def __repr__(self) -> str:
        return f"Configuration({self.printable()!r})"

    def _needed(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise ConfigurationError(
                f"configuration key {name} has no value, expected {self._keys[name].kind.value}",
                next_step=f"set {name}",
            )
        return value


def load_configuration(
    keys: Iterable[ConfigKey],
    config_file: Path | None,
    environ: Mapping[str, str],
    *,
    accepted: Iterable[str] = (),
    folder: Path = Path("conf"),
) -> Configuration:
    """The configuration of a service. `accepted` are keys that the reference knows and nothing here reads.

    `config_file` is the override file; without one it is found as the reference does, under `folder`.
    ConfigurationError names the key, the file and the expected form.
    """
    known = {key.name: key for key in keys}
    known.setdefault(SEALED, ConfigKey(SEALED, Kind.BOOLEAN, False))
    known.setdefault("environment", ConfigKey("environment"))
    silent = frozenset(accepted)
    default_file = _default_file(environ, folder)
    override_file = config_file or _override_file(environ, folder)
    warnings: list[str] = []
    layers = [
        (file, _checked(read_members(file), known, silent, file, warnings))
        for file in (default_file, override_file)
        if file is not None
    ]
    in_files = {name: value for _, layer in layers for name, value in layer.items()}
    sealed = in_files.get(SEALED) is True
    from_environment = _environment_members(known, environ, sealed=sealed)
    members: dict[str, Any] = {}
    for file, layer in layers:
        if file is override_file:
            members |= from_environment
        members |= layer
    if override_file is None:
        members |= from_environment
    # Only the environment shifts ports, whatever a file says.
    offset = members.pop(PORT_OFFSET, None) if sealed else _port_offset(environ)
    if offset is not None:
        members[PORT_OFFSET] = offset
    _refuse_dangerous(members, sealed=sealed)
    for warning in warnings:
        _log.warning(warning)
    return Configuration(members, known, tuple(warnings))


def _default_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    named = environ.get(DEFAULT_FILE_VARIABLE)
    if named:
        return Path(named)
    usual = folder / "default-config.json"
    return usual if usual.is_file() else None


def _override_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    named = environ.get(OVERRIDE_FILE_VARIABLE)
    if named:
        return Path(named)
    usual = folder / ("config.json" if "KUBERNETES_SERVICE_HOST" in environ else "local-config.json")
    return usual if usual.is_file() else None


def _checked(
    members: Mapping[str, Any], known: Mapping[str, ConfigKey], silent: frozenset[str], file: Path, warnings: list[str]
) -> dict[str, Any]:
    """Values in the form of their key; null counts as unset."""
    checked: dict[str, Any] = {}
    for name, value in members.items():
        if name == PORT_OFFSET:
            warnings.append(f"{file}: port_offset counts only as an environment variable; it is ignored here")
            continue
        key = known.get(name)
        if key is None and name not in silent:
            near = difflib.get_close_matches(name, [*known, *silent], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{file}: unknown configuration key {name}{hint}")
        if value is not None:
            checked[name] = value if key is None else _in_form(key, value, str(file))
    return checked


def _environment_members(known: Mapping[str, ConfigKey], environ: Mapping[str, str], *, sealed: bool) -> dict[str, Any]:
    if sealed:
        for name in (PORT_OFFSET, DEFAULT_FILE_VARIABLE, OVERRIDE_FILE_VARIABLE):
            if environ.get(name):
                raise ConfigurationError(
                    f"the configuration is sealed and the environment variable {name} is set",
                    next_step=f"unset {name}, or build a package with another configuration",
                )
    members: dict[str, Any] = {}
    for name, key in known.items():
        text = environ.get(name)
        if text is None or name in (PORT_OFFSET, SEALED) or (sealed and name not in SEALED_ENVIRONMENT):
            continue
        value = text if key.kind is Kind.TEXT else converted(text)
        if value is not None:
            members[name] = _in_form(key, value, "environment")
    if sealed:
        _refuse_dangerous({name: value for name, value in environ.items() if name in known}, sealed=True)
    return members


def converted(text: str) -> Any:
    """The JSON value that a text looks like (number, true, false, null, object, list), else the text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _in_form(key: ConfigKey, value: Any, source: str) -> Any:
    fitting: Any = None
    match key.kind:
        case Kind.ANY:
            fitting = value
        case Kind.TEXT:
            if isinstance(value, bool):
                fitting = "true" if value else "false"
            elif isinstance(value, str | int | float):
                fitting = str(value)
        case Kind.BOOLEAN:
            value = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
            fitting = value if isinstance(value, bool) else None
        case Kind.INTEGER:
            value = converted(value) if isinstance(value, str) else value
            fitting = value if isinstance(value, int) and not isinstance(value, bool) else None
        case Kind.NUMBER:
            value = converted(value) if isinstance(value, str) else value
            fitting = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if fitting is None:
        raise ConfigurationError(
            f"configuration key {key.name} ({source}) must be {key.kind.value}", next_step=f"correct {key.name}"
        )
    return fitting


def _port_offset(environ: Mapping[str, str]) -> int | None:
    text = environ.get(PORT_OFFSET)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(
            "configuration key port_offset (environment) must be a whole number", next_step="correct port_offset"
        ) from None


def _refuse_dangerous(members: Mapping[str, Any], *, sealed: bool) -> None:
    environment = str(members.get("environment") or "").lower()
    if not sealed and environment not in GUARDED_ENVIRONMENTS:
        return
    for name, value in members.items():
        if name.startswith("dangerous_") and value not in (None, False, "", "false"):
            why = "sealed" if sealed else f"for the environment {environment}"
            raise ConfigurationError(
                f"configuration key {name} is for development only and the configuration is {why}",
                next_step=f"remove {name}",
            )
