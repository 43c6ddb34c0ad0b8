"""Lifetimes and environment that change while the service runs (operator chapter, 15.4; core chapter, 7.6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment
from uid2.protocol.store_json import INT32, RecordReader, parse_json

_REPAIR: Final = "correct the runtime configuration"


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """All in seconds."""

    identity_token_expires_after_seconds: int
    refresh_token_expires_after_seconds: int
    refresh_identity_token_after_seconds: int
    sharing_token_expiry_seconds: int
    max_bidstream_lifetime_seconds: int
    max_sharing_lifetime_seconds: int
    identity_environment: Environment


def parse_runtime_config(members: Mapping[str, Any]) -> RuntimeConfig:
    """The configuration of a flat object, unknown members ignored; the first violated rule is the StoreFormatError."""
    identity = _required(members, "identity_token_expires_after_seconds")
    refresh = _required(members, "refresh_token_expires_after_seconds")
    refresh_from = _required(members, "refresh_identity_token_after_seconds")
    _ordered("refresh_token_expires_after_seconds", refresh, "identity_token_expires_after_seconds", identity)
    _ordered("identity_token_expires_after_seconds", identity, "refresh_identity_token_after_seconds", refresh_from)
    bidstream = _optional(members, "max_bidstream_lifetime_seconds")
    if bidstream is not None:
        _ordered("max_bidstream_lifetime_seconds", bidstream, "identity_token_expires_after_seconds", identity)
    sharing = _required(members, "sharing_token_expiry_seconds")
    max_sharing = _optional(members, "max_sharing_lifetime_seconds")
    return RuntimeConfig(
        identity_token_expires_after_seconds=identity,
        refresh_token_expires_after_seconds=refresh,
        refresh_identity_token_after_seconds=refresh_from,
        sharing_token_expiry_seconds=sharing,
        max_bidstream_lifetime_seconds=identity if bidstream is None else bidstream,
        max_sharing_lifetime_seconds=sharing if max_sharing is None else max_sharing,
        identity_environment=_environment(members),
    )


def parse_runtime_config_document(data: bytes) -> tuple[int, RuntimeConfig]:
    """`{"version": n, "runtime_config": {…}}`: the version and the configuration."""
    document = parse_json(data)
    if not isinstance(document, dict):
        raise StoreFormatError("not a JSON object", next_step=_REPAIR)
    record = RecordReader(document)
    members = record.raw("runtime_config")
    if not isinstance(members, dict):
        raise record.wrong("runtime_config", "required member is missing or not an object")
    return record.long("version"), parse_runtime_config(members)


def _required(members: Mapping[str, Any], name: str) -> int:
    value = _optional(members, name)
    if value is None:
        raise StoreFormatError(f"{name} is required", next_step=_REPAIR)
    return value


def _optional(members: Mapping[str, Any], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise StoreFormatError(f"{name} must be a whole number of seconds", next_step=_REPAIR)
    if not INT32[0] <= value <= INT32[1]:
        raise StoreFormatError(f"{name} is out of range", next_step=_REPAIR)
    return value


def _ordered(larger: str, value: int, smaller: str, least: int) -> None:
    if value < least:
        raise StoreFormatError(f"{larger} ({value}) must be >= {smaller} ({least})", next_step=_REPAIR)


def _environment(members: Mapping[str, Any]) -> Environment:
    value = members.get("identity_environment")
    if value is None:
        raise StoreFormatError("identity_environment is required", next_step=_REPAIR)
    if not isinstance(value, str) or value.upper() not in Environment.__members__:
        raise StoreFormatError("identity_environment must be one of test, integ, prod", next_step=_REPAIR)
    return Environment[value.upper()]
