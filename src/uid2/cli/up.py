"""`uid2 up`: the development stack."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scope(StrEnum):
    UID2 = "uid2"
    EUID = "euid"


def up(
    state: Annotated[Path, typer.Option(help="Folder that keeps demo stores and local data.")] = Path(".uid2"),
    salts: Annotated[
        int | None, typer.Option(min=1, max=1_048_576, help="Salt buckets of new demo stores. Default: 1000.")
    ] = None,
    operators: Annotated[int, typer.Option(min=0, max=50, help="How many operators, on ports + 10, + 20 …")] = 1,
    enclave: Annotated[
        Path | None, typer.Option(help="identity.json of a built enclave that Core accepts as well.")
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Identity scope of the stack.")] = Scope.UID2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the banner as one JSON line.")] = False,
) -> None:
    """Start Core and attested operators on freshly generated demo stores, on loopback, until Ctrl-C."""
    from uid2.devstack.up import run_stack

    raise typer.Exit(
        run_stack(state, salts=salts, operators=operators, scope=scope.value, as_json=as_json, enclave=enclave)
    )
