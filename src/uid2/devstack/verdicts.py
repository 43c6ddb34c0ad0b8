"""Core's verdicts about operators, from its log."""

from pathlib import Path
from typing import Any, Final

import msgspec

ACCEPTED: Final = "attestation accepted: "


def verdicts(core_log: Path) -> list[str]:
    """One line for each accepted attestation, as Core wrote it."""
    found = []
    for line in core_log.read_bytes().splitlines():
        try:
            members: Any = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        message = members.get("message") if isinstance(members, dict) else None
        if isinstance(message, str) and message.startswith(ACCEPTED):
            found.append(message.removeprefix(ACCEPTED))
    return found
