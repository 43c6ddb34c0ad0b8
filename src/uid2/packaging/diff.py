"""Where two builds differ: files of the enclave, settings, identity, container; and what merely follows from that."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from uid2.packaging.archive_tree import FileEntry, FileTree, read_tree
from uid2.packaging.identity import identity_of_library
from uid2.packaging.inspect import LIBRARY_NAME, json_object, library_path
from uid2.packaging.sigstruct import EnclaveFileError

_IDENTITY_FIELDS: Final = ("mr_enclave", "mr_signer", "product_id", "svn", "measurement", "debug_refused", "signed_on")
_NONE: Final = "(none)"


class Area(StrEnum):
    ENCLAVE = "enclave file"
    SETTING = "setting"
    IDENTITY = "identity"
    CONTAINER = "container file"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class Difference:
    """`left` and `right` say what each side has: a digest's beginning, a mode, a value, or nothing."""

    area: Area
    name: str
    left: str
    right: str

    def line(self) -> str:
        return f"{self.area:<15} {self.name}: {self.left} | {self.right}"


def diff_paths(left: Path, right: Path) -> tuple[Difference, ...]:
    """Every difference of two packages or images, causes first. Raises EnclaveFileError."""
    return diff_trees(read_tree(left), read_tree(right), str(left), str(right))


def diff_trees(left: FileTree, right: FileTree, left_name: str = "A", right_name: str = "B") -> tuple[Difference, ...]:
    homes = [_home(tree, name) for tree, name in ((left, left_name), (right, right_name))]
    if homes[0] != homes[1]:
        raise EnclaveFileError(
            f"the enclaves lie in different folders: {homes[0] or '/'} and {homes[1] or '/'}",
            next_step="compare two of a kind: two packages, or two images",
        )
    home = homes[0]
    found = [
        *_identity(left.kept[f"{home}build/lib/{LIBRARY_NAME}"], right.kept[f"{home}build/lib/{LIBRARY_NAME}"]),
        *_settings(left.kept.get(f"{home}Occlum.json"), right.kept.get(f"{home}Occlum.json")),
        *_files(left, right, home),
    ]
    order = list(Area)
    return tuple(sorted(found, key=lambda difference: (order.index(difference.area), difference.name)))


def _home(tree: FileTree, name: str) -> str:
    return library_path(tree, name).removesuffix(f"build/lib/{LIBRARY_NAME}")


def _identity(left: bytes, right: bytes) -> Iterator[Difference]:
    if left == right:
        return
    a, b = identity_of_library(left), identity_of_library(right)
    for name in _IDENTITY_FIELDS:
        one, other = str(getattr(a, name)), str(getattr(b, name))
        if one != other:
            yield Difference(Area.IDENTITY, name, one, other)


def _settings(left: bytes | None, right: bytes | None) -> Iterator[Difference]:
    a, b = (dict(_flat(json_object(data or b"{}", "Occlum.json"))) for data in (left, right))
    for name in sorted(a.keys() | b.keys()):
        if a.get(name, _NONE) != b.get(name, _NONE):
            yield Difference(Area.SETTING, name, a.get(name, _NONE), b.get(name, _NONE))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from _flat(member, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value:
        for number, member in enumerate(value):
            yield from _flat(member, f"{name}[{number}]")
    else:
        yield name, str(value)


def _files(left: FileTree, right: FileTree, home: str) -> Iterator[Difference]:
    image = f"{home}image/"
    for path in sorted(left.entries.keys() | right.entries.keys()):
        a, b = left.entries.get(path), right.entries.get(path)
        if a == b or path == f"{home}Occlum.json":
            continue
        if path.startswith(image):
            area, name = Area.ENCLAVE, "/" + path.removeprefix(image)
        elif path.startswith(f"{home}build/") or path.rpartition("/")[2] in ("identity.json", "files.json"):
            area, name = Area.DERIVED, path
        else:
            area, name = Area.CONTAINER, path
        yield Difference(area, name, *_described(a, b))


def _described(left: FileEntry | None, right: FileEntry | None) -> tuple[str, str]:
    """Only the parts that differ, so that equal content under another mode reads as such."""
    if left is None or right is None or left.kind != right.kind:
        return _kind(left), _kind(right)
    if left.digest != right.digest:
        return f"sha256 {left.digest[:16]}", f"sha256 {right.digest[:16]}"
    if left.target != right.target:
        return f"to {left.target}", f"to {right.target}"
    return f"mode {left.mode:04o}", f"mode {right.mode:04o}"


def _kind(entry: FileEntry | None) -> str:
    return _NONE if entry is None else f"a {entry.kind}"
