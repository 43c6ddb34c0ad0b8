"""Tar archives and OCI image layouts, written without a container engine and byte for byte the same each time (8.4).

Members in the order of their paths, owner 0:0 without names, one time, modes 0644 or 0755; gzip without name and time.
"""

import gzip
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from uid2.packaging.rootfs import Node, RootFileSystem

GZIP_LEVEL: Final = 6
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_TAR_TYPES: Final = {"folder": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE}
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob: SHA-256 of its bytes in hex, and how many there are."""

    media_type: str
    digest: str
    size: int

    def record(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer on disk. `diff_id` is the SHA-256 of the unpacked tar, `blob` the gzip file with `descriptor`."""

    blob: Path
    descriptor: Descriptor
    diff_id: str
    tar_size: int


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What the image's configuration says besides its layers. `created` is in epoch seconds."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    working_folder: str
    ports: tuple[int, ...]
    created: int
    environment: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OciImage:
    manifest: Descriptor
    config: Descriptor
    config_bytes: bytes = field(repr=False)
    layers: tuple[Layer, ...]

    def digests(self) -> dict[str, str]:
        """Names and SHA-256 digests of what two equal builds have alike."""
        return {
            "manifest": self.manifest.digest,
            "config": self.config.digest,
            **{f"layer{number}": layer.descriptor.digest for number, layer in enumerate(self.layers)},
            **{f"diff_id{number}": layer.diff_id for number, layer in enumerate(self.layers)},
        }


def write_tar(tree: RootFileSystem, out: IO[bytes], epoch: int) -> None:
    """The whole tree as one uncompressed PAX archive; every member has the time `epoch`."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path, node in tree.nodes():
            member = tar_member(path, node, epoch)
            if node.kind == "file":
                with node.open() as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)


def tar_member(path: str, node: Node, epoch: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = _TAR_TYPES[node.kind], node.mode, epoch
    member.linkname = node.target
    member.size = node.size if node.kind == "file" else 0
    return member


def write_layer(tree: RootFileSystem, blob: Path, epoch: int) -> Layer:
    """A gzipped tar at `blob`, with its digests."""
    with blob.open("xb") as raw:
        packed = HashingWriter(raw)
        with gzip_writer(packed) as compressed:
            unpacked = HashingWriter(cast("IO[bytes]", compressed))
            write_tar(tree, cast("IO[bytes]", unpacked), epoch)
    descriptor = Descriptor(LAYER_TYPE, packed.hash.hexdigest(), packed.size)
    return Layer(blob, descriptor, unpacked.hash.hexdigest(), unpacked.size)


def write_gzipped_tar(tree: RootFileSystem, file: Path, epoch: int) -> str:
    """The tree as `file`; gives its SHA-256."""
    return write_layer(tree, file, epoch).descriptor.digest


def write_oci(layout: Path, layers: Sequence[Layer], settings: ImageSettings, tags: Sequence[str]) -> OciImage:
    """An OCI layout of one image. Layers are moved into it; `tags` are names as `docker` writes them."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    placed = []
    for layer in layers:
        home = blobs / layer.descriptor.digest
        layer.blob.rename(home)
        placed.append(Layer(home, layer.descriptor, layer.diff_id, layer.tar_size))
    config_bytes = encode_document(_config(placed, settings))
    config = _put(blobs, CONFIG_TYPE, config_bytes)
    manifest_bytes = encode_document(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.record(),
            "layers": [layer.descriptor.record() for layer in placed],
        }
    )
    manifest = _put(blobs, MANIFEST_TYPE, manifest_bytes)
    entry = manifest.record() | {"platform": {"architecture": "amd64", "os": "linux"}}
    if tags:
        # One image, one entry: readers take the first name; the others stand beside it.
        entry["annotations"] = {
            "org.opencontainers.image.ref.name": tags[0].rpartition(":")[2],
            "io.containerd.image.name": tags[0],
            "org.uid2.names": " ".join(tags),
        }
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    (layout / "index.json").write_bytes(encode_document(index))
    (layout / "oci-layout").write_bytes(encode_document({"imageLayoutVersion": "1.0.0"}))
    return OciImage(manifest, config, config_bytes, tuple(placed))


def encode_document(value: Any) -> bytes:
    """JSON with sorted keys and no spaces."""
    return msgspec.json.encode(value, order="sorted")


def timestamp(epoch: int) -> str:
    """RFC 3339 in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gzip_writer(out: "IO[bytes] | HashingWriter") -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=cast("IO[bytes]", out), mtime=0)


class HashingWriter:
    """Passes bytes on, keeping their SHA-256 and number."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        self._out.write(data)
        return len(data)

    def flush(self) -> None:
        self._out.flush()


def _config(layers: Sequence[Layer], settings: ImageSettings) -> dict[str, Any]:
    created = timestamp(settings.created)
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {
            "Env": list(settings.environment),
            "Entrypoint": list(settings.entrypoint),
            "Cmd": list(settings.command),
            "WorkingDir": settings.working_folder,
            "Labels": dict(settings.labels),
            "ExposedPorts": {f"{port}/tcp": {} for port in settings.ports},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
        "history": [{"created": created, "created_by": "uid2 enclave build"} for _ in layers],
    }


def _put(blobs: Path, media_type: str, data: bytes) -> Descriptor:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return Descriptor(media_type, digest, len(data))
