"""The configuration that is baked into an enclave as /app/conf/config.json, and measured with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uid2.protocol.errors import ConfigurationError
from uid2.service.config_files import read_members

NAMES: Final = ("local", "sim", "integ", "prod")
PRODUCTION: Final = ("integ", "prod")
SUFFIX: Final = "-config.json"
_ADDRESSES: Final = ("core_attest_url", "optout_metadata_path", "optout_api_uri")


@dataclass(frozen=True, slots=True)
class BakedConfig:
    """`data` are the bytes as they stand in the file."""

    name: str
    data: bytes = field(repr=False)
    members: Mapping[str, Any] = field(repr=False)

    @property
    def environment(self) -> str | None:
        return self.name if self.name in PRODUCTION else None


def baked_config(folder: Path, name: str) -> BakedConfig:
    """The configuration `name` of `folder`. ConfigurationError: unknown, no JSON, or unsafe for integ and prod."""
    if name not in NAMES:
        raise ConfigurationError(f"unknown configuration {name[:80]}", next_step=f"give one of {', '.join(NAMES)}")
    file = folder / f"{name}{SUFFIX}"
    members = read_members(file)
    if name in PRODUCTION:
        _check_production(file, members, name)
    return BakedConfig(name, file.read_bytes(), members)


def _check_production(file: Path, members: Mapping[str, Any], name: str) -> None:
    if members.get("sealed") is not True:
        raise _unsafe(file, "must hold sealed: true", 'add "sealed": true')
    if members.get("environment") != name:
        raise _unsafe(file, f"must hold environment: {name}", f'add "environment": "{name}"')
    weak = next((key for key in members if key.startswith("dangerous_")), None)
    if weak is not None:
        raise _unsafe(file, f"holds {weak}, which weakens the enclave", f"take {weak} out")
    if members.get("storage_mock"):
        raise _unsafe(file, "must not use storage_mock", "name core_attest_url instead")
    if not members.get("core_attest_url"):
        raise _unsafe(file, "names no core_attest_url", "name Core's /attest")
    for key in _ADDRESSES:
        value = members.get(key)
        plain = isinstance(value, str) and not value.startswith(("https://", "/"))
        if plain:
            raise _unsafe(file, f"{key} is not https", f"write {key} as https://…")


def _unsafe(file: Path, problem: str, next_step: str) -> ConfigurationError:
    return ConfigurationError(f"configuration file {file}: it {problem}", next_step=next_step)
