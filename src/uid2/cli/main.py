"""The command `uid2`. Every noun has its file; heavy imports wait until their command runs."""

import sys

import typer

from uid2.cli import core, inspect, map, operator, token, up  # noqa: A004 - the command is called map
from uid2.protocol.errors import Uid2Error

app = typer.Typer(
    name="uid2",
    help="UID2 operator: start one, make tokens, map lists, explain bytes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.command("token")(token.token)
app.command("map")(map.map_file)
app.add_typer(operator.app, name="operator")
app.add_typer(core.app, name="core")
app.add_typer(inspect.app, name="inspect")


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
