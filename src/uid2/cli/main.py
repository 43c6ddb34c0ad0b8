"""The command `uid2`. Every noun has its file; heavy imports wait until their command runs."""

import sys
from typing import Annotated, Any, cast

import typer

from uid2.cli import (
    admin,
    aks,
    core,
    doctor,
    enclave,
    inspect,
    map,  # noqa: A004 - the command is called map
    operator,
    optout,
    quote,
    token,
    up,
)
from uid2.protocol.errors import Uid2Error

# httpx comes with a command line of its own, which takes longer to import than the rest of it.
cast("dict[str, Any]", sys.modules).setdefault("httpx._main", None)


def show_version(wanted: bool) -> None:
    """The version, and which engine does bulk work here."""
    if not wanted:
        return
    from importlib.metadata import version

    from uid2.bulk.engine import best_engine

    print(f"uid2 {version('uid2-confidential-operator')} (bulk engine: {best_engine().name})")
    raise typer.Exit


app = typer.Typer(
    name="uid2",
    help="UID2 operator: start one, make tokens, map lists, explain bytes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


app.command("doctor")(doctor.doctor)
app.command("up")(up.up)
app.command("token")(token.token)
app.command("map")(map.map_file)
app.add_typer(operator.app, name="operator")
app.add_typer(core.app, name="core")
app.add_typer(optout.app, name="optout")
app.add_typer(admin.app, name="admin")
app.add_typer(inspect.app, name="inspect")
app.add_typer(quote.app, name="quote")
app.add_typer(enclave.app, name="enclave")
app.add_typer(aks.app, name="aks")


def main() -> None:
    """Run the command line; an error of ours ends as message and next step on standard error."""
    try:
        app()
    except Uid2Error as error:
        from uid2.service.exits import exit_code_of

        print(f"error: {error.diagnosis()}", file=sys.stderr)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
