"""`uid2 operator …`: the operator by itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

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

    raise typer.Exit(serve_operator(config, quote_source_of=_simulated_source))


def _simulated_source(path: str) -> "QuoteSource":
    # Imported on demand: the enclave image has no simulated TEE.
    from uid2.simtee.client import SocketQuoteSource

    return SocketQuoteSource(path)
