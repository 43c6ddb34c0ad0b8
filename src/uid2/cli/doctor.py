"""`uid2 doctor`: what is missing on this machine before the enclave starts."""

from pathlib import Path
from typing import Annotated, Any

import typer


def doctor(
    config: Annotated[Path | None, typer.Option("--config", help="The operator's configuration file.")] = None,
    settings: Annotated[Path | None, typer.Option("--occlum-json", help="Occlum.json of the enclave.")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Container log whose 0xE0xx errors to explain.")] = None,
) -> None:
    """Check devices, machine size, tokens, quoting, memory, clock and Core; ends with 1 when something is found."""
    from uid2.packaging.doctor import examine
    from uid2.packaging.doctor_machine import this_machine

    text = _log_text(log) if log is not None else ""
    found = examine(this_machine(), _members(config), _members(settings), text)
    for finding in found:
        print(finding.line())
    if found:
        print(f"{len(found)} finding(s). This is advice: the start itself is the judge.")
        raise typer.Exit(1)
    print("nothing found; the start itself is the judge")


def _members(path: Path | None) -> dict[str, Any]:
    from uid2.service.config_files import read_members

    return {} if path is None else read_members(path)


def _log_text(path: Path) -> str:
    from uid2.protocol.errors import ConfigurationError

    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", next_step="check the path") from None
