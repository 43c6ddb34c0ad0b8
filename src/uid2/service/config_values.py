"""Values of configuration keys in the forms that several services need; ConfigurationError names the key."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import Secret
from uid2.service.config import Configuration


def needed_secret(configuration: Configuration, name: str) -> Secret:
    value = configuration.secret(name)
    if value is None or not value.reveal():
        raise ConfigurationError(
            f"configuration key {name} has no value", next_step=f"set {name} to a long random text"
        )
    return value


def at_least(configuration: Configuration, name: str, lowest: int) -> int:
    value = configuration.integer(name)
    if value < lowest:
        raise ConfigurationError(
            f"configuration key {name} must be a whole number, {lowest} or more", next_step=f"correct {name}"
        )
    return value


def positive(configuration: Configuration, name: str) -> int:
    value = configuration.integer(name)
    if value <= 0:
        raise ConfigurationError(
            f"configuration key {name} must be a whole number above 0", next_step=f"correct {name}"
        )
    return value


def path_of(configuration: Configuration, name: str) -> Path | None:
    value = configuration.text(name)
    return Path(value) if value else None


def url_of(configuration: Configuration, name: str) -> str | None:
    value = configuration.text(name)
    if not value:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"configuration key {name} must be an address that begins with https:// or http://",
            next_step=f"correct {name}",
        )
    return value


def environment_of(configuration: Configuration, environments: Iterable[str]) -> str | None:
    value = configuration.text("environment")
    if not value:
        return None
    known = tuple(environments)
    if value.lower() not in known:
        raise ConfigurationError(
            f"configuration key environment must be one of {', '.join(known)}", next_step="correct environment"
        )
    return value.lower()


def bucket_options(configuration: Configuration) -> dict[str, Any]:
    """Options of the client of S3 from the `aws_…` keys."""
    # Half a key pair counts as none: the default credentials of the platform are then used.
    pair = (configuration.text("aws_access_key_id"), configuration.text("aws_secret_access_key"))
    options: dict[str, Any] = {
        "region": configuration.text("aws_region"),
        "access_key_id": pair[0] if all(pair) else None,
        "secret_access_key": pair[1] if all(pair) else None,
        "endpoint": configuration.text("aws_s3_endpoint"),
    }
    return {name: value for name, value in options.items() if value}
