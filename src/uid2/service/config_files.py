"""Configuration files: a JSON object, or lines of `key = value`, told apart by their extension."""

from pathlib import Path
from typing import Any

import msgspec

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.json_text import parse_object


def read_members(file: Path) -> dict[str, Any]:
    """The members of a file; no extension means JSON. ConfigurationError names the file, never its contents."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"configuration file {file} cannot be read: {error.strerror}", next_step="check the path and its rights"
        ) from None
    match file.suffix.lower():
        case "" | ".json":
            try:
                return parse_object(data)
            except ValueError:
                raise ConfigurationError(
                    f"configuration file {file} must hold one JSON object", next_step="check its syntax"
                ) from None
        case ".properties":
            return _properties(data, file)
        case suffix:
            raise ConfigurationError(
                f"configuration file {file}: files of the form {suffix} are not supported",
                next_step="write it as .json or .properties",
            )


def _properties(data: bytes, file: Path) -> dict[str, Any]:
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration file {file} must be UTF-8", next_step="save it as UTF-8") from None
    members: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        ends = [at for at in (text.find("="), text.find(":")) if at > 0]
        if not ends:
            raise ConfigurationError(
                f"configuration file {file}, line {number}: expected key = value", next_step="correct the line"
            )
        name, value = text[: min(ends)].strip(), text[min(ends) + 1 :].strip()
        try:
            members[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            members[name] = value
    return members
