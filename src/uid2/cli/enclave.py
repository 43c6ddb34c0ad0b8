"""`uid2 enclave …`: the enclave package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from uid2.packaging.held_calls import QuoteOf

DEFAULT_PACKAGE: Final = Path("scripts/azure/build/uid2-operator/uid2-operator.tar.gz")

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


@app.command("parts")
def parts(
    folder: Annotated[Path, typer.Option("--folder", help="Where they go; native programs lie there already.")] = Path(
        "dist/azure"
    ),
) -> None:
    """Download the locked wheels of the image and record what the parts in the folder were made from."""
    import os

    from uid2.packaging.interpreter import choose_interpreter
    from uid2.packaging.parts import LOCK, write_record
    from uid2.packaging.wheels import collect_wheels

    interpreter = choose_interpreter(os.environ)
    root = _repository()
    wheels = collect_wheels(root / LOCK, folder / "wheels", interpreter.short_version)
    write_record(root, folder, interpreter.short_version)
    print(f"{len(wheels)} wheels for Python {interpreter.short_version} in {folder / 'wheels'}")


@app.command("build")
def build(
    configuration: Annotated[str, typer.Argument(help="local, sim, integ or prod.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the artifacts, replaced whole.")] = Path(
        "scripts/azure/build"
    ),
    version: Annotated[str | None, typer.Option("--build-version", help="Version in tags and labels.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out the images.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="A debuggable enclave; local and sim alone.")] = False,
    sign_key: Annotated[Path | None, typer.Option("--sign-key", help="RSA key in PEM: 3072 bits, exponent 3.")] = None,
    provenance_key: Annotated[Path | None, typer.Option("--provenance-key", help="Ed25519 key in PEM.")] = None,
    base: Annotated[Path | None, typer.Option("--base", help="Root file system of Occlum's image as a tar.")] = None,
    folder: Annotated[Path | None, typer.Option("--parts", help="Folder of the prepared parts.")] = None,
    salts: Annotated[int, typer.Option("--salts", help="Salt buckets that the enclave must hold.")] = 1 << 20,
    optouts: Annotated[int, typer.Option("--optouts", help="Opt-outs that the enclave must hold.")] = 10_000_000,
) -> None:
    """Build the operator into an enclave package and a container image; without Occlum a simulated one."""
    import os
    from importlib.metadata import version as version_of

    from uid2.packaging.build import STUB, BuildOrder, build_package
    from uid2.packaging.occlum import find_occlum

    order = BuildOrder(
        root=_repository(),
        configuration=configuration,
        output=out,
        version=version or version_of("uid2-confidential-operator"),
        fast=fast,
        debuggable=debug,
        salts=salts,
        optouts=optouts,
        parts=folder,
        signing_key=sign_key,
        provenance_key=provenance_key,
        base=base,
        occlum=find_occlum(),
    )
    record = build_package(order, os.environ, print, _sample_stores)
    print(f"MRENCLAVE   {record['mr_enclave']}\nMRSIGNER    {record['mr_signer']}")
    print(f"artifacts   {out}")
    if order.occlum is None:
        print(STUB)


def _sample_stores(folder: Path, seed: bytes, now: int) -> list[str]:
    """Demo stores that are the same for the same seed and time."""
    import hashlib
    import itertools

    from uid2.devstack.demo_data import create_demo_stores
    from uid2.protocol.ids import EpochMillis

    counter = itertools.count()

    def draw(length: int) -> bytes:
        return hashlib.shake_256(seed + next(counter).to_bytes(8)).digest(length)

    folder.mkdir()
    found = create_demo_stores(folder, salts=1000, draw=draw, now=EpochMillis(now * 1000), scope="uid2")
    return [f"sample client key {found.client_key}", f"its secret {found.client_secret}; known to all, for tests alone"]


def _repository() -> Path:
    """The work tree that this command is installed from."""
    from uid2.protocol.errors import ConfigurationError

    root = Path(__file__).resolve().parents[3]
    if not (root / "scripts/azure").is_dir():
        raise ConfigurationError(
            "enclaves are built from the repository, and this command is installed without it",
            next_step="clone the repository and run make env there",
        )
    return root


@app.command(
    "run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def run(
    words: Annotated[list[str] | None, typer.Argument(help="occlum run PROGRAM … (default: the operator).")] = None,
    package: Annotated[Path, typer.Option("--package", help="Occlum package, or the folder of one.")] = DEFAULT_PACKAGE,
    state: Annotated[
        Path, typer.Option("--state", help="Folder of a running `uid2 up`, whose TEE then quotes.")
    ] = Path(".uid2"),
    tee: Annotated[Path | None, typer.Option("--tee", help="Socket of a simulated quoting service.")] = None,
    calls: Annotated[bool, typer.Option("--calls", help="Print the system calls used and refused; slower.")] = False,
) -> None:
    """Start the package's program in a sandbox with Occlum's system calls and a simulated TEE."""
    import os
    import sys

    from uid2.packaging.package_files import open_package
    from uid2.packaging.sandbox import SIMULATED, SandboxedProgram, occlum_words, run_sandboxed, writable_folders

    opened = open_package(package)
    command = occlum_words(words or [])
    program = SandboxedProgram(
        root=opened.root,
        settings=opened.settings,
        command=command,
        host_environment=os.environ,
        writable=writable_folders(opened.root),
        trace=calls,
    )
    prints_identity = command[0] == "/bin/sgx_quote"
    if not prints_identity:
        print(SIMULATED, file=sys.stderr, flush=True)
    report = run_sandboxed(program, _quotes(opened.identity.record(), tee or _stack_socket(state)))
    if prints_identity:
        print(SIMULATED, flush=True)
    if report.failure:
        print(f"simulated TEE: {report.failure}", file=sys.stderr)
    if calls or report.unexpected:
        print("\n".join(report.lines()), file=sys.stderr)
    raise typer.Exit(report.exit_code)


def _stack_socket(state: Path) -> Path | None:
    """The socket of the stack that runs from `state`, if one does."""
    from uid2.devstack.state import RUNNING, read_running

    if not (state / RUNNING).exists():
        return None
    socket = read_running(state).quoting
    return Path(socket) if socket and Path(socket).exists() else None


def _quotes(record: dict[str, Any], socket: Path | None) -> "QuoteOf":
    """Quotes of this enclave by a running stack's TEE; without one by a TEE of this run alone, which no Core trusts."""
    from uid2.simtee.client import SocketQuoteSource
    from uid2.simtee.platform import SimulatedPlatform
    from uid2.simtee.quoting import simulated_enclave

    if socket is not None:
        return SocketQuoteSource(str(socket), record).quote
    import time

    from uid2.protocol.ids import EpochSeconds

    platform, enclave = SimulatedPlatform.create(EpochSeconds(int(time.time()))), simulated_enclave(record)
    return lambda report_data: platform.quote(report_data, enclave)
