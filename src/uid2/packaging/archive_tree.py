"""The files of a package or an image, read without unpacking: tar, OCI layout, docker archive, or a folder.

Archives are read to their last byte: one that is cut short, damaged, or names a path outside itself is refused whole.
"""

import gzip
import hashlib
import json
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

from uid2.packaging.sigstruct import EnclaveFileError

LARGEST: Final = 16 << 30
LARGEST_KEPT: Final = 64 << 20
MOST_MEMBERS: Final = 500_000
KEPT_NAMES: Final = frozenset(
    {"libocclum-libos.signed.so", "Occlum.json", "identity.json", "manifest.json", "config.json"}
)
_GZIP: Final = b"\x1f\x8b"
_BLOCK: Final = 1 << 20
_END: Final = bytes(1024)

EntryKind = Literal["file", "folder", "symlink", "link"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """`digest` is the SHA-256 of a file in hex; `target` that of a link. `mode` holds the permission bits."""

    kind: EntryKind
    mode: int
    size: int = 0
    digest: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class FileTree:
    """Paths without a leading slash. `kept` holds the bytes of the few files that are read again."""

    entries: dict[str, FileEntry]
    kept: dict[str, bytes] = field(repr=False, default_factory=dict)

    def paths_named(self, name: str) -> list[str]:
        return sorted(path for path in self.kept if path.rpartition("/")[2] == name)


class _Watched:
    """Reads on, remembering the digest, the amount and the last bytes."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.total = 0
        self.tail = b""
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(_BLOCK if size < 0 else size)
        self.total += len(data)
        if self.total > LARGEST:
            raise EnclaveFileError(f"an archive of more than {LARGEST >> 30} GiB unpacked")
        self.tail = (self.tail + data)[-len(_END) :]
        self.hash.update(data)
        return data


def read_tree(path: Path) -> FileTree:
    """The tree at `path`. Raises EnclaveFileError with the reason when anything about it is wrong."""
    try:
        if path.is_dir():
            return _oci_tree(path) if (path / "oci-layout").exists() else _folder_tree(path)
        with path.open("rb") as source:
            tree, _ = tar_tree(source)
        if "manifest.json" in tree.kept and (layers := _docker_layers(tree.kept["manifest.json"])):
            return _docker_tree(path, layers)
        return tree
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(path) from None
        raise EnclaveFileError(f"{path} cannot be read: {error.strerror}", next_step="check the path") from None
    except (EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError):
        raise _damaged(path) from None
    except EnclaveFileError as error:
        raise EnclaveFileError(f"{path}: {error.message}", next_step=error.next_step) from None


def tar_tree(source: IO[bytes]) -> tuple[FileTree, str]:
    """The tree of a tar or tar.gz stream, and the SHA-256 of the unpacked tar in hex."""
    start = source.read(2)
    source.seek(0)
    watched = _Watched(gzip.GzipFile(fileobj=source) if start == _GZIP else source)  # type: ignore[arg-type]  # it reads
    tree = FileTree({}, {})
    with tarfile.open(fileobj=watched, mode="r|") as archive:  # type: ignore[call-overload]  # a stream only reads
        for member in archive:
            _take(tree, archive, member)
        end = archive.offset
    while watched.read():
        pass
    # Where content that ends in zeros is cut, the archive ends in zeros too, but before its next header.
    if not tree.entries or watched.tail != _END or watched.total < end + len(_END):
        raise EnclaveFileError("a tar archive that is cut short or empty")
    return tree, watched.hash.hexdigest()


def _take(tree: FileTree, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = checked_path(member.name)
    if not path:
        return
    if path in tree.entries and not member.isdir():
        raise EnclaveFileError(f"the archive holds {path} twice")
    if len(tree.entries) >= MOST_MEMBERS:
        raise EnclaveFileError(f"the archive holds more than {MOST_MEMBERS:,} members")
    _refuse_below_symlink(tree, path)
    mode = member.mode & 0o7777
    if member.isdir():
        tree.entries[path] = FileEntry("folder", mode)
    elif member.issym():
        tree.entries[path] = FileEntry("symlink", mode, target=member.linkname)
    elif member.islnk():
        target = checked_path(member.linkname)
        _refuse_below_symlink(tree, target)
        tree.entries[path] = FileEntry("link", mode, target=target)
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        _take_file(tree, path, mode, content)
    else:
        raise EnclaveFileError(f"the archive holds a device or pipe: {path}")


def _refuse_below_symlink(tree: FileTree, path: str) -> None:
    """A name that goes through a link could lead anywhere once it is unpacked."""
    parts = path.split("/")
    for length in range(1, len(parts)):
        parent = tree.entries.get("/".join(parts[:length]))
        if parent is not None and parent.kind == "symlink":
            raise EnclaveFileError(f"the archive's member {path} goes through a symbolic link")


def _take_file(tree: FileTree, path: str, mode: int, content: IO[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    kept = bytearray() if path.rpartition("/")[2] in KEPT_NAMES else None
    while block := content.read(_BLOCK):
        digest.update(block)
        size += len(block)
        if kept is not None:
            if size > LARGEST_KEPT:
                raise EnclaveFileError(f"{path} is larger than {LARGEST_KEPT >> 20} MiB")
            kept += block
    tree.entries[path] = FileEntry("file", mode, size, digest.hexdigest())
    if kept is not None:
        tree.kept[path] = bytes(kept)


def checked_path(name: str) -> str:
    """The path of a member without `./`. EnclaveFileError when it would leave the archive's folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise EnclaveFileError(f"a member leaves the archive's folder: {name[:200]!r}")
    return "/".join(parts)


def _folder_tree(folder: Path) -> FileTree:
    tree = FileTree({}, {})
    for path in sorted(folder.rglob("*")):
        name, facts = path.relative_to(folder).as_posix(), path.lstat()
        mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISLNK(facts.st_mode):
            tree.entries[name] = FileEntry("symlink", mode, target=str(path.readlink()))
        elif stat.S_ISDIR(facts.st_mode):
            tree.entries[name] = FileEntry("folder", mode)
        elif stat.S_ISREG(facts.st_mode):
            with path.open("rb") as content:
                _take_file(tree, name, mode, content)
        else:
            raise EnclaveFileError(f"the folder holds a device or pipe: {name}")
    return tree


def _oci_tree(layout: Path) -> FileTree:
    """The layers of the one image of an OCI layout, every blob checked against its digest."""
    index = _json((layout / "index.json").read_bytes())
    manifests = index.get("manifests")
    if not isinstance(manifests, list) or len(manifests) != 1:
        raise EnclaveFileError("index.json: expected one image")
    manifest = _json(_blob(layout, manifests[0]).read_bytes())
    config = _json(_blob(layout, manifest.get("config")).read_bytes())
    layers, unpacked = manifest.get("layers"), config.get("rootfs")
    digests = unpacked.get("diff_ids") if isinstance(unpacked, dict) else None
    if not isinstance(layers, list) or not isinstance(digests, list) or len(layers) != len(digests) or not layers:
        raise EnclaveFileError("manifest and configuration name different layers")
    trees = []
    for descriptor, expected in zip(layers, digests, strict=True):
        with _blob(layout, descriptor).open("rb") as source:
            tree, digest = tar_tree(source)
        if f"sha256:{digest}" != expected:
            raise EnclaveFileError("a layer does not have the unpacked digest that the configuration names")
        trees.append(tree)
    return _stacked(trees)


def _blob(layout: Path, descriptor: Any) -> Path:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    hex_digits = digest[7:] if isinstance(digest, str) and digest.startswith("sha256:") else ""
    if len(hex_digits) != 64 or not set(hex_digits) <= set("0123456789abcdef"):
        raise EnclaveFileError("a blob is named by something that is no SHA-256 digest")
    blob = layout / "blobs" / "sha256" / hex_digits
    with blob.open("rb") as source:
        if hashlib.file_digest(source, "sha256").hexdigest() != hex_digits:
            raise EnclaveFileError(f"blob {hex_digits[:16]}… does not have the digest of its name")
    return blob


def _docker_layers(data: bytes) -> list[str] | None:
    try:
        parsed = json.loads(data)
    except ValueError:
        return None
    if not isinstance(parsed, list) or len(parsed) != 1 or not isinstance(parsed[0], dict):
        return None
    layers = parsed[0].get("Layers")
    return [str(layer) for layer in layers] if isinstance(layers, list) and layers else None


def _docker_tree(path: Path, layers: list[str]) -> FileTree:
    trees = []
    with tarfile.open(path) as archive:
        for layer in layers:
            try:
                content = archive.extractfile(layer)
            except KeyError:
                content = None
            if content is None:
                raise EnclaveFileError(f"manifest.json names the layer {layer[:80]}, which is not there")
            trees.append(tar_tree(content)[0])
    return _stacked(trees)


def _stacked(trees: list[FileTree]) -> FileTree:
    """Layers on top of each other; `.wh.` members take away what is below."""
    result = FileTree({}, {})
    for tree in trees:
        for path in tree.entries:
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                _remove(result, folder, itself=False)
            elif name.startswith(".wh."):
                _remove(result, f"{folder}/{name[4:]}".lstrip("/"), itself=True)
        visible = {path: entry for path, entry in tree.entries.items() if "/.wh." not in f"/{path}"}
        result.entries.update(visible)
        for path in visible:
            result.kept.pop(path, None)
        result.kept.update(tree.kept)
    return result


def _remove(tree: FileTree, path: str, *, itself: bool) -> None:
    for below in list(tree.entries):
        if below.startswith(f"{path}/" if path else "") or (itself and below == path):
            del tree.entries[below]
            tree.kept.pop(below, None)


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise EnclaveFileError("a document of the image is no JSON object")
    return value


def _damaged(path: Path) -> EnclaveFileError:
    return EnclaveFileError(f"{path} is cut short or damaged, or no tar archive")


def walk_files(tree: FileTree) -> Iterator[tuple[str, FileEntry]]:
    """Files and links, sorted by path."""
    return ((path, entry) for path, entry in sorted(tree.entries.items()) if entry.kind != "folder")
