"""`uid2 optout …`: the opt-out service by itself."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run the opt-out service.", no_args_is_help=True)


@app.callback()
def optout() -> None:
    """Run the opt-out service."""


@app.command("serve")
def serve(
    config: Annotated[Path, typer.Option("--config", help="Configuration file (JSON, the documented keys).")],
) -> None:
    """Start the opt-out service with a configuration file and stay in the foreground."""
    from uid2.optout.main import serve as serve_optout

    raise typer.Exit(serve_optout(config))
