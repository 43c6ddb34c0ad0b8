"""A package on disk, ready to run: checked whole, then unpacked once beside itself."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uid2.packaging.archive_tree import read_tree
from uid2.packaging.identity import EnclaveIdentity
from uid2.packaging.inspect import LIBRARY_NAME, inspect_path, inspect_tree, library_path
from uid2.packaging.sigstruct import EnclaveFileError

IMAGE: Final = "image"


@dataclass(frozen=True, slots=True)
class RunnablePackage:
    """`root` is the enclave's root file system, readable because the package is one of base `stub`."""

    root: Path
    identity: EnclaveIdentity
    settings: Mapping[str, Any]


def open_package(path: Path) -> RunnablePackage:
    """The package at `path`: uid2-operator.tar.gz, or the folder it was unpacked to. Raises EnclaveFileError."""
    folder = path if path.is_dir() else _unpacked(path)
    inspected = inspect_path(folder)
    if inspected.settings is None:
        raise EnclaveFileError(f"{path} holds no Occlum.json", next_step="name an Occlum package")
    root = next((found for found in (folder / IMAGE, *folder.glob(f"*/{IMAGE}")) if found.is_dir()), None)
    if root is None:
        raise EnclaveFileError(
            f"{path} holds its root file system in the form that only Occlum reads",
            next_step="run it with Occlum: occlum run /bin/launcher",
        )
    return RunnablePackage(root, inspected.identity, inspected.settings)


def _unpacked(package: Path) -> Path:
    """The folder of a package, made once for its content. Nothing half-made is left."""
    tree = read_tree(package)
    inspect_tree(tree, str(package))
    home = library_path(tree, str(package)).removesuffix(f"build/lib/{LIBRARY_NAME}")
    with package.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    folder = package.parent / f".unpacked-{digest[:16]}"
    if folder.is_dir():
        return folder / home
    fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=package.parent))
    try:
        with tarfile.open(package) as archive:
            _unpack(archive, fresh)
        fresh.chmod(0o755)
        os.rename(fresh, folder)
    except tarfile.TarError as error:
        raise EnclaveFileError(f"{package} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder / home


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Every member, as this user's and without special mode bits; `read_tree` has refused names that lead outside.

    Python before 3.11.4 has no filter for this.
    """
    for member in archive:
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode &= 0o755
        archive.extract(member, folder)
