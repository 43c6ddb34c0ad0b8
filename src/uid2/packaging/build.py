"""`uid2 enclave build`: source, parts and configuration ─▶ signed enclave ─▶ images and their documents.

Everything is made beside the output folder and put in its place at the end: nothing half-built is left behind.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from uid2.packaging.artifacts import PACKAGE, Enclave, write_artifacts, write_package
from uid2.packaging.baked_config import BakedConfig, baked_config
from uid2.packaging.enclave_root import EnclaveRoot, enclave_root
from uid2.packaging.file_manifest import content_digest, file_manifest
from uid2.packaging.identity import identity_of_library
from uid2.packaging.image import timestamp
from uid2.packaging.interpreter import Interpreter, choose_interpreter
from uid2.packaging.occlum import LIBRARY, EnclaveInputs, build_enclave
from uid2.packaging.occlum_config import (
    PRODUCT_ID,
    SVN,
    EnclaveSizes,
    enclave_sizes,
    encode_occlum_config,
    occlum_config,
)
from uid2.packaging.parts import FOLDER, Parts, open_parts
from uid2.packaging.provenance import load_provenance_key
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.packaging.source import SourceFacts, source_facts
from uid2.packaging.synthetic import SyntheticEnclave, synthetic_library
from uid2.protocol.errors import ConfigurationError

KEYS: Final = Path("scripts/azure/keys")
SIMULATED_SIGNER: Final = KEYS / "simulated-signer.pem"
SIMULATED_PROVENANCE: Final = KEYS / "simulated-provenance.pem"
STUB: Final = (
    "BASE STUB: no Occlum here, so this enclave is SIMULATED; it cannot be pushed and no production Core takes it"
)

MOCK_STORES: Final = "/app/stores"

Say = Callable[[str], None]
# Fills a folder with sample stores that depend on the seed and the time (epoch seconds) alone; gives lines about them.
SampleStores = Callable[[Path, bytes, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """`root` is the repository; `base` the root file system of Occlum's image as a tar, `occlum` its command."""

    root: Path
    configuration: str
    output: Path
    version: str
    fast: bool = False
    debuggable: bool = False
    salts: int = 1 << 20
    optouts: int = 10_000_000
    parts: Path | None = None
    signing_key: Path | None = None
    provenance_key: Path | None = None
    base: Path | None = None
    occlum: str | None = None


def build_package(
    order: BuildOrder, environ: Mapping[str, str], say: Say, sample_stores: SampleStores
) -> Mapping[str, Any]:
    """Makes every artifact in `order.output`; gives the identity record. ConfigurationError, EnclaveFileError.

    `sample_stores` are for a configuration that names them in its mock mode.
    """
    config = baked_config(order.root / "scripts/azure/conf", order.configuration)
    sizes = enclave_sizes(order.salts, order.optouts, config.members)
    settings = encode_occlum_config(occlum_config(sizes, debuggable=order.debuggable, environment=config.environment))
    source = source_facts(order.root, order.version, environ)
    signer, provenance = _keys(order)
    parts = open_parts(order.root, order.parts or order.root / FOLDER)
    interpreter = choose_interpreter(environ)
    stub = order.occlum is None
    if not stub and interpreter.origin == "machine":
        raise ConfigurationError(
            interpreter.finding, next_step="set PYTHON_PREFIX to a portable CPython built for glibc 2.31 or older"
        )
    say(f"source      {source.commit} of {timestamp(source.epoch)}, version {source.tag}")
    say(f"interpreter {interpreter.finding}")
    for line in sizes.lines():
        say(f"size        {line}")
    order.output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{order.output.name}-", dir=order.output.parent))
    try:
        work.chmod(0o755)
        stores = None
        if config.members.get("storage_mock") and config.members.get("storage_mock_root") == MOCK_STORES:
            stores = work / "stores"
            for line in sample_stores(stores, source.commit.encode(), source.epoch):
                say(f"stores      {line}")
        made = enclave_root(order.root, work / "stage", parts, interpreter, config, sizes, stub=stub, stores=stores)
        for finding in made.findings:
            say(f"elf         {finding.line()}")
        fresh = work / "out"
        fresh.mkdir()
        enclave = _enclave(order, made, settings, sizes, source, signer, work)
        record = write_artifacts(
            fresh, order, enclave, source, _inputs(order, config, parts, interpreter, made), provenance, base=order.base
        )
        _replace(order.output, fresh, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return record


def _enclave(
    order: BuildOrder,
    made: EnclaveRoot,
    settings: bytes,
    sizes: EnclaveSizes,
    source: SourceFacts,
    signer: Path,
    work: Path,
) -> Enclave:
    manifest = file_manifest(made.tree)
    if order.occlum is not None:
        plain = work / "root"
        made.tree.write_to(plain)
        package = build_enclave(
            EnclaveInputs(plain, settings, signer, debuggable=order.debuggable),
            work / PACKAGE,
            PACKAGE,
            occlum=order.occlum,
        )
        library = (package.parent / LIBRARY).read_bytes()
        return Enclave(identity_of_library(library), manifest, package, None)
    library = synthetic_library(
        SyntheticEnclave(
            content=content_digest(manifest, settings),
            kernel_heap=sizes.kernel_heap.value,
            user_space=sizes.user_space.value,
            threads=sizes.threads.value,
            thread_stack=sizes.kernel_stack.value,
            product_id=PRODUCT_ID,
            svn=SVN,
            date=timestamp(source.epoch)[:10].replace("-", ""),
            debuggable=order.debuggable,
        ),
        _rsa_key(signer),
    )
    tree = RootFileSystem()
    tree.put_tree(f"{PACKAGE}/image", made.tree)
    for folder in ("build/initfs", "build/mount", "initfs", "run"):
        tree.folder(f"{PACKAGE}/{folder}")
    tree.file(f"{PACKAGE}/Occlum.json", settings)
    tree.file(f"{PACKAGE}/{LIBRARY}", library)
    tree.file(f"{PACKAGE}/.__occlum_status", b"built")
    tree.file(f"{PACKAGE}/.sgx_mode", b"SIM\n")
    package = write_package(tree, work, source.epoch)
    return Enclave(identity_of_library(library), manifest, package, tree)


def _inputs(
    order: BuildOrder, config: BakedConfig, parts: Parts, interpreter: Interpreter, made: EnclaveRoot
) -> dict[str, Any]:
    """What the documents say the artifacts were made from."""
    return {
        "configuration": config.name,
        "interpreter": {"version": interpreter.full_version, "origin": interpreter.origin},
        "wheels": [wheel.record() for wheel in parts.wheels],
        "base_files": sorted(f"/{path}" for path in made.base_paths),
        "debuggable": order.debuggable,
        "salts": order.salts,
        "optouts": order.optouts,
    }


def _keys(order: BuildOrder) -> tuple[Path, Any]:
    signer, provenance = order.signing_key, order.provenance_key
    if order.occlum is not None:
        if signer is None or provenance is None:
            raise ConfigurationError(
                "an enclave of Occlum's is signed with keys of your own",
                next_step="give --sign-key (RSA, 3072 bits, exponent 3) and --provenance-key (Ed25519)",
            )
        simulated = (order.root / SIMULATED_SIGNER).read_bytes()
        if signer.read_bytes() == simulated:
            raise ConfigurationError("--sign-key is the public key of simulated builds", next_step="make your own")
    signer = signer or order.root / SIMULATED_SIGNER
    provenance = provenance or order.root / SIMULATED_PROVENANCE
    return signer, load_provenance_key(_read(provenance), str(provenance))


def _rsa_key(file: Path) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(
            f"{file} holds no RSA private key in PEM", next_step="openssl genrsa -3 -out key.pem 3072"
        )
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", next_step="check the path") from None


def _replace(output: Path, fresh: Path, work: Path) -> None:
    """Puts the new folder in the place of the old one."""
    if output.exists() and not output.is_dir():
        raise EnclaveFileError(f"{output} is not a folder", next_step="name another output")
    fresh.chmod(0o755)
    if output.exists():
        output.rename(work / "before")
    fresh.rename(output)
