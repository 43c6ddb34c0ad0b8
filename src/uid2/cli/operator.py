"""`uid2 operator …`: the operator by itself."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run an operator.", no_args_is_help=True)


@app.callback()
def operator() -> None:
    """Run an operator."""


@app.command("serve")
def serve(
    config: Annotated[Path, typer.Option("--config", help="Configuration file (JSON, the documented keys).")],
) -> None:
    """Start the operator with a configuration file and stay in the foreground."""
    from uid2.operator.main import serve as serve_operator

    raise typer.Exit(serve_operator(config))
