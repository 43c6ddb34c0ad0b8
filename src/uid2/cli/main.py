"""The command `uid2`. Every noun has its file; heavy imports wait until their command runs."""

import sys
from typing import Final

import typer

from uid2.cli import inspect, map, operator, token, up  # noqa: A004 - the command is called map
from uid2.protocol.errors import ConfigurationError, DependencyError, Uid2Error

EXIT_CODES: Final[tuple[tuple[type[Uid2Error], int], ...]] = ((ConfigurationError, 2), (DependencyError, 4))

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
app.add_typer(inspect.app, name="inspect")


def main() -> None:
    """Run the command line; an error of ours ends as message and next step on standard error."""
    try:
        app()
    except Uid2Error as error:
        print(f"error: {error.diagnosis()}", file=sys.stderr)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.exit(1)


def exit_code(error: Uid2Error) -> int:
    """2 for configuration or arguments, 4 for a dependency that cannot be reached, else 1."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


if __name__ == "__main__":
    main()
