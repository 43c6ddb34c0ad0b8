"""Wheels for the enclave: chosen by platform tag, locked by hash, unpacked alike everywhere (enclave chapter, 6.4).

Scripts, stubs, C sources and tests stay out. What `pip` would add beside the files (INSTALLER, direct_url.json, RECORD
in another order) does not come to be.
"""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.packaging.archive_tree import checked_path
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.protocol.errors import DependencyError

PLATFORMS: Final = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_26_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux2010_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
)
_LEFT_OUT: Final = (".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".cpp", ".hpp", ".typed", ".pyc")
_INFO_KEPT: Final = ("METADATA",)
_TESTS: Final = frozenset({"test", "tests", "testing", "__pycache__"})
_LARGEST: Final = 256 << 20

Run = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Wheel:
    """`sha256` is the file's; `content` that of its members by name, which re-zipping leaves alone. Both in hex."""

    name: str
    version: str
    file: Path
    sha256: str
    content: str

    def record(self) -> dict[str, str]:
        return {
            "name": self.name,
            "version": self.version,
            "file": self.file.name,
            "sha256": self.sha256,
            "content_sha256": self.content,
        }


def run_pip(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode


def collect_wheels(lock: Path, folder: Path, python: str, run: Run = run_pip) -> tuple[Wheel, ...]:
    """The wheels of a hash-locked requirements file, for CPython `python` (such as 3.11), downloaded to `folder`.

    DependencyError: one cannot be had for a platform this old, or has another hash.
    """
    tag = "cp" + python.replace(".", "")
    command = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    folder.mkdir(parents=True, exist_ok=True)
    if run([*command, "--dest", str(folder), "--requirement", str(lock)]) != 0:
        raise DependencyError(
            f"the wheels of {lock.name} cannot be had for glibc 2.28 and Python {python}",
            next_step="read pip's message above; a library without such a wheel must be pinned to a version with one",
        )
    return read_wheels(folder)


def read_wheels(folder: Path) -> tuple[Wheel, ...]:
    """Those in a folder, sorted by name. EnclaveFileError: no wheel, or one that is damaged."""
    wheels = sorted((read_wheel(file) for file in folder.glob("*.whl")), key=lambda wheel: wheel.name)
    if not wheels:
        raise EnclaveFileError(f"{folder} holds no wheel", next_step="run make package PROFILE=azure")
    return tuple(wheels)


def read_wheel(file: Path) -> Wheel:
    """Its name, and both digests; every member is checked against RECORD. EnclaveFileError."""
    name, version = file.name.split("-")[:2]
    content = hashlib.sha256()
    for path, data in sorted(_members(file)):
        content.update(f"{len(path.encode())}:{path}{len(data)}:".encode() + hashlib.sha256(data).digest())
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return Wheel(name.lower().replace("_", "-"), version, file, digest, content.hexdigest())


def place_wheel(wheel: Wheel, tree: RootFileSystem, below: str) -> None:
    """The wheel's modules, and of its description METADATA and licences, under the site-packages folder `below`."""
    for path, data in _members(wheel.file):
        target = _target(path)
        if target is not None:
            tree.file(f"{below}/{target}", data)


def top_level_names(wheel: Wheel) -> frozenset[str]:
    """What can be imported from it."""
    names = set()
    for path, _ in _members(wheel.file):
        first = path.split("/")[0]
        if not first.endswith((".dist-info", ".data")):
            names.add(first.split(".")[0])
    return frozenset(names)


def _target(path: str) -> str | None:
    parts = path.split("/")
    if parts[0].endswith(".data"):
        if parts[1] not in ("purelib", "platlib"):
            return None
        parts = parts[2:]
    if parts[0].endswith(".dist-info"):
        return "/".join(parts) if parts[1] in _INFO_KEPT or parts[1] == "licenses" else None
    if _TESTS & set(parts[:-1]) or parts[-1].endswith(_LEFT_OUT):
        return None
    return "/".join(parts)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Names and content; what RECORD says of a member must hold."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            records = [entry for entry in entries if entry.filename.endswith(".dist-info/RECORD")]
            if len(records) != 1:
                raise EnclaveFileError(f"{file.name} has no RECORD")
            rows = csv.reader(io.StringIO(archive.read(records[0]).decode()))
            expected = {row[0]: row[1] for row in rows if len(row) == 3}
            for entry in entries:
                if entry.file_size > _LARGEST:
                    raise EnclaveFileError(f"{file.name}: {entry.filename} is larger than {_LARGEST >> 20} MiB")
                data = archive.read(entry)
                if entry is not records[0] and expected.get(entry.filename) != _record_hash(data):
                    raise EnclaveFileError(f"{file.name}: {entry.filename} is not the file that RECORD names")
                yield checked_path(entry.filename), data
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError) as error:
        raise EnclaveFileError(f"{file.name} is no wheel, or is damaged: {type(error).__name__}") from None


def _record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
