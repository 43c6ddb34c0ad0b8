"""What a package or image says of its enclave: the signed identity, and the settings beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uid2.packaging.archive_tree import FileTree, read_tree
from uid2.packaging.identity import EnclaveIdentity, identity_of_library, mismatches
from uid2.packaging.occlum_config import weaknesses
from uid2.packaging.sigstruct import EnclaveFileError

LIBRARY_NAME: Final = "libocclum-libos.signed.so"
SIMULATED: Final = "SIMULATED: no SGX hardware stands behind this identity; it protects nothing"
_ELF: Final = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class InspectedEnclave:
    """`settings` is Occlum.json, None where there is none (a library by itself)."""

    identity: EnclaveIdentity
    settings: Mapping[str, Any] | None

    def lines(self) -> tuple[str, ...]:
        """The report for people; the first four lines are those of `sgx_quote`."""
        identity = self.identity
        recomputed = (
            "hashes to MRENCLAVE" if identity.recomputed else "not recomputed (experimental for real libraries)"
        )
        rows = [
            ("measurement", identity.measurement),
            ("signature", "RSA-3072, exponent 3: verified, Q1 and Q2 too"),
            (
                "debug",
                "refused by the processor" if identity.debug_refused else "POSSIBLE: the host may read its memory",
            ),
            ("signed on", identity.signed_on),
            ("enclave size", f"{identity.enclave_size >> 20} MB of addresses"),
            ("threads", "bound one to one" if identity.thread_policy == 0 else "taken from a pool"),
            ("content", recomputed),
        ]
        if identity.metadata_blocks > 1:
            rows.append(("metadata", f"{identity.metadata_blocks} blocks that agree; the newest is shown"))
        if self.settings is not None:
            found = weaknesses(self.settings)
            rows += [("WEAK", text) for text in found] or [("Occlum.json", "release mode, nothing of the host let in")]
        simulated = (SIMULATED,) if identity.measurement == "simulated" else ()
        return (*identity.lines(), *simulated, *(f"{name:<13} {value}" for name, value in rows))


def inspect_path(path: Path) -> InspectedEnclave:
    """The enclave in a package, an image, a folder, or a library file. Raises EnclaveFileError."""
    if path.is_file():
        with path.open("rb") as source:
            if source.read(4) == _ELF:
                return InspectedEnclave(identity_of_library(path.read_bytes()), None)
    return inspect_tree(read_tree(path), str(path))


def inspect_tree(tree: FileTree, name: str) -> InspectedEnclave:
    library = library_path(tree, name)
    identity = identity_of_library(tree.kept[library])
    home = library.removesuffix(f"build/lib/{LIBRARY_NAME}")
    settings = tree.kept.get(f"{home}Occlum.json")
    return InspectedEnclave(identity, None if settings is None else json_object(settings, f"{home}Occlum.json"))


def library_path(tree: FileTree, name: str) -> str:
    found = tree.paths_named(LIBRARY_NAME)
    if len(found) != 1:
        raise EnclaveFileError(
            f"{name} holds {len(found) or 'no'} {LIBRARY_NAME}: expected one enclave",
            next_step="name an Occlum package (uid2-operator.tar.gz), an image, or an OCI layout folder",
        )
    return found[0]


def compare_with_record(record_path: Path, path: Path) -> EnclaveIdentity:
    """The identity in `path`, which is the recorded one. Raises EnclaveFileError that names every difference."""
    try:
        data = record_path.read_bytes()
    except OSError as error:
        raise EnclaveFileError(
            f"{record_path} cannot be read: {error.strerror}", next_step="name the identity.json of a build"
        ) from None
    record = json_object(data, str(record_path))
    identity = inspect_path(path).identity
    found = mismatches(record, identity)
    if found:
        raise EnclaveFileError(
            f"{path} is another enclave than {record_path} records:\n  " + "\n  ".join(found),
            next_step="`uid2 enclave diff` of the two builds names the files and settings that differ",
        )
    return identity


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """The object of a JSON file. EnclaveFileError names the file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EnclaveFileError(f"{name} is no JSON object")
    return value
