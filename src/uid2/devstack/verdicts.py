"""Core's verdicts about operators, from its log."""

from pathlib import Path
from typing import Any, Final

import msgspec

ACCEPTED: Final = "attestation accepted: "
# The opt-out service has a key of this protocol; about it there is nothing to decide.
TRUSTED: Final = "trusted"


def verdicts(core_log: Path) -> list[str]:
    """One line for each accepted attestation of an operator, as Core wrote it."""
    found = []
    for line in core_log.read_bytes().splitlines():
        try:
            members: Any = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if not isinstance(members, dict) or members.get("protocol") == TRUSTED:
            continue
        message = members.get("message")
        if isinstance(message, str) and message.startswith(ACCEPTED):
            found.append(message.removeprefix(ACCEPTED))
    return found
