"""The prepared parts of an image: wheels and native programs, and whether they belong to the present source.

<folder>/wheels/*.whl
<folder>/native/{launcher,sgx_quote,uid2_native.abi3.so}
<folder>/parts.json        digests of the sources that they were made from
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from uid2.packaging.image import encode_document
from uid2.packaging.wheels import Wheel, read_wheels
from uid2.protocol.errors import ConfigurationError

FOLDER: Final = Path("dist/azure")
RECORD: Final = "parts.json"
LAUNCHER: Final = "launcher"
SGX_QUOTE: Final = "sgx_quote"
NATIVE_MODULE: Final = "uid2_native.abi3.so"
LOCK: Final = Path("requirements/enclave.txt")
CRATES: Final = ("launcher", "native", "sgx_quote")
_NEXT_STEP: Final = "run make package PROFILE=azure in the repository"


@dataclass(frozen=True, slots=True)
class Parts:
    wheels: tuple[Wheel, ...]
    launcher: Path
    sgx_quote: Path
    native_module: Path
    python: str


def source_digest(root: Path) -> str:
    """SHA-256 in hex over the lock of the wheels and the sources of the crates."""
    files = [root / LOCK]
    for crate in CRATES:
        folder = root / "rust" / crate
        files += [folder / "Cargo.toml", folder / "Cargo.lock", *sorted((folder / "src").glob("*.rs"))]
    digest = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(data)}\n".encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def write_record(root: Path, folder: Path, python: str) -> None:
    """Says what the parts in `folder` were made from; `python` is the version that the wheels are for."""
    (folder / RECORD).write_bytes(encode_document({"sources": source_digest(root), "python": python}))


def open_parts(root: Path, folder: Path) -> Parts:
    """ConfigurationError when they are not there, or were made from other sources."""
    try:
        record: Any = msgspec.json.decode((folder / RECORD).read_bytes())
    except (OSError, msgspec.DecodeError):
        raise ConfigurationError(f"{folder} holds no parts of an image", next_step=_NEXT_STEP) from None
    if not isinstance(record, dict) or record.get("sources") != source_digest(root):
        raise ConfigurationError(f"the parts in {folder} were made from other sources", next_step=_NEXT_STEP)
    native = {name: folder / "native" / name for name in (LAUNCHER, SGX_QUOTE, NATIVE_MODULE)}
    missing = next((name for name, file in native.items() if not file.is_file()), None)
    if missing is not None:
        raise ConfigurationError(f"{folder} lacks {missing}", next_step=_NEXT_STEP)
    return Parts(
        read_wheels(folder / "wheels"),
        native[LAUNCHER],
        native[SGX_QUOTE],
        native[NATIVE_MODULE],
        str(record.get("python")),
    )
