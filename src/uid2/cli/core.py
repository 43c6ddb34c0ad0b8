"""`uid2 core …`: the Core service by itself."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run Core, the service that attests operators.", no_args_is_help=True)


@app.callback()
def core() -> None:
    """Run Core, the service that attests operators."""


@app.command("serve")
def serve(
    config: Annotated[Path, typer.Option("--config", help="Configuration file (JSON, the documented keys).")],
) -> None:
    """Start Core with a configuration file and stay in the foreground."""
    from uid2.core.main import serve as serve_core

    raise typer.Exit(serve_core(config))
