"""The archive that `docker load` reads, made from an OCI image (enclave chapter, 8.1)."""

import gzip
import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, cast

from uid2.packaging.image import HashingWriter, OciImage, encode_document, gzip_writer

_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


def write_docker_archive(image: OciImage, file: Path, tags: Sequence[str], epoch: int) -> str:
    """Writes the gzipped archive; gives its SHA-256. Layers are stored unpacked, as `docker save` does."""
    config_name = f"{image.config.digest}.json"
    layer_names = [f"{layer.diff_id}/layer.tar" for layer in image.layers]
    manifest = [{"Config": config_name, "RepoTags": list(tags), "Layers": layer_names}]
    repositories: dict[str, dict[str, str]] = {}
    for tag in tags:
        name, _, version = tag.rpartition(":")
        repositories.setdefault(name, {})[version] = image.layers[-1].diff_id
    with file.open("xb") as raw:
        packed = HashingWriter(raw)
        with (
            gzip_writer(packed) as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            _add(archive, config_name, image.config_bytes, epoch)
            for layer, name in zip(image.layers, layer_names, strict=True):
                archive.addfile(_member(name.rpartition("/")[0], 0, epoch, folder=True))
                with gzip.open(layer.blob) as unpacked:
                    archive.addfile(_member(name, layer.tar_size, epoch), cast("IO[bytes]", unpacked))
            _add(archive, "manifest.json", encode_document(manifest), epoch)
            _add(archive, "repositories", encode_document(repositories), epoch)
    return packed.hash.hexdigest()


def copy_plain(image: OciImage, file: Path) -> str:
    """The root file system as one gzipped tar, which `docker import` reads: the image's only layer. Its SHA-256."""
    (layer,) = image.layers
    shutil.copyfile(layer.blob, file)
    return layer.descriptor.digest


def _add(archive: tarfile.TarFile, name: str, data: bytes, epoch: int) -> None:
    archive.addfile(_member(name, len(data), epoch), io.BytesIO(data))


def _member(name: str, size: int, epoch: int, *, folder: bool = False) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, epoch
    member.type, member.mode = (tarfile.DIRTYPE, _FOLDER_MODE) if folder else (tarfile.REGTYPE, _FILE_MODE)
    return member
