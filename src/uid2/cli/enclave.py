"""`uid2 enclave …`: the enclave package."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at enclave packages and images, and run them.", no_args_is_help=True)


@app.callback()
def enclave() -> None:
    """Look at enclave packages and images, and run them."""


@app.command("inspect")
def inspect(
    path: Annotated[Path, typer.Argument(help="Occlum package, image archive, OCI layout folder, or signed library.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the identity as one JSON line.")] = False,
) -> None:
    """Verify the enclave's signature and print its identity. Needs no SGX."""
    from uid2.packaging.inspect import inspect_path

    inspected = inspect_path(path)
    if as_json:
        import json

        print(json.dumps(inspected.identity.record() | {"debug_refused": inspected.identity.debug_refused}))
        return
    print("\n".join(inspected.lines()))


@app.command("compare")
def compare(
    path: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Package, image, OCI layout folder, or signed library.")
    ],
    record: Annotated[Path, typer.Option("--record", help="The identity.json of a build.")],
) -> None:
    """Say whether an image is the enclave of a record; ends with 1 when it is another."""
    from uid2.packaging.inspect import SIMULATED, compare_with_record

    identity = compare_with_record(record, path)
    print(f"the same enclave: MRENCLAVE {identity.mr_enclave}")
    if identity.measurement == "simulated":
        print(SIMULATED)


@app.command("diff")
def diff(
    left: Annotated[Path, typer.Argument(metavar="A", help="Package, image, or OCI layout folder.")],
    right: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
) -> None:
    """Name the files and settings in which two builds differ; ends with 1 when they do."""
    from uid2.packaging.diff import diff_paths

    found = diff_paths(left, right)
    if not found:
        print("no difference")
        return
    print("\n".join(difference.line() for difference in found))
    raise typer.Exit(1)
