"""The base of a real image: the root file system of Occlum's own container, as `docker export` writes it."""

import gzip
import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, cast

from uid2.packaging.image import LAYER_TYPE, Descriptor, HashingWriter, Layer, gzip_writer
from uid2.packaging.sigstruct import EnclaveFileError

_GZIP: Final = b"\x1f\x8b"
_BLOCK: Final = 1 << 20


def copy_base(archive: Path, blob: Path) -> Layer:
    """The tar (gzipped or not) as a layer, its members untouched. EnclaveFileError for something else."""
    try:
        with archive.open("rb") as source, blob.open("xb") as raw:
            packed = HashingWriter(raw)
            start = source.read(2)
            source.seek(0)
            plain = cast("IO[bytes]", gzip.GzipFile(fileobj=source)) if start == _GZIP else source
            unpacked = hashlib.sha256()
            size = 0
            with gzip_writer(packed) as compressed:
                while block := plain.read(_BLOCK):
                    unpacked.update(block)
                    size += len(block)
                    compressed.write(block)
        with tarfile.open(blob) as opened:
            if opened.next() is None:
                raise EnclaveFileError(f"{archive} is an empty archive")
    except (OSError, EOFError, tarfile.TarError):
        raise EnclaveFileError(f"{archive} is no tar archive", next_step="docker export CONTAINER > base.tar") from None
    return Layer(blob, Descriptor(LAYER_TYPE, packed.hash.hexdigest(), packed.size), unpacked.hexdigest(), size)


def write_merged(layers: Sequence[Path], file: Path) -> None:
    """One gzipped tar of all layers, lowest first; of members of one name the highest layer's stays."""
    highest: dict[str, int] = {}
    for number, layer in enumerate(layers):
        with tarfile.open(layer) as archive:
            highest |= {_name(member): number for member in archive if not member.isdir()}
    folders: set[str] = set()
    with (
        file.open("xb") as raw,
        gzip_writer(raw) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as merged,
    ):
        for number, layer in enumerate(layers):
            with tarfile.open(layer) as archive:
                for member in archive:
                    name = _name(member)
                    if member.isdir():
                        if name in folders or name in highest:
                            continue
                        folders.add(name)
                    elif highest[name] != number:
                        continue
                    content = archive.extractfile(member) if member.isreg() else None
                    merged.addfile(member, content)


def _name(member: tarfile.TarInfo) -> str:
    return "/".join(part for part in member.name.split("/") if part not in ("", "."))
