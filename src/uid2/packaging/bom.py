"""A bill of materials in the form of Occlum's copy_bom, put together into a root file system (enclave chapter, 6.3).

The same file feeds Occlum's own tool. Known here: includes, excludes, and targets with mkdirs, createlinks and copy
(from, dirs, files with name, rename and hash). Any other key is refused, as it would change what is measured.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from uid2.packaging.rootfs import RootFileSystem
from uid2.protocol.errors import ConfigurationError

_TOP: Final = frozenset({"includes", "excludes", "targets"})
_TARGET: Final = frozenset({"target", "mkdirs", "createlinks", "copy"})
_COPY: Final = frozenset({"from", "dirs", "files"})
_FILE: Final = frozenset({"name", "rename", "hash", "autodep"})
_LINK: Final = frozenset({"src", "linkname"})
_DEEPEST: Final = 8


def assemble(bom: Path, sources: Path) -> RootFileSystem:
    """The file system of a bill; relative names in it are below `sources`. ConfigurationError names bill and key."""
    tree = RootFileSystem()
    _assemble(bom, sources, tree, _DEEPEST)
    return tree


def _assemble(bom: Path, sources: Path, tree: RootFileSystem, depth: int) -> None:
    try:
        members = yaml.safe_load(bom.read_bytes())
    except OSError as error:
        raise _wrong(bom, f"cannot be read: {error.strerror}") from None
    except yaml.YAMLError:
        raise _wrong(bom, "is not YAML") from None
    if not isinstance(members, dict):
        raise _wrong(bom, "must be a mapping")
    _known(bom, members, _TOP, "the bill")
    if depth == 0:
        raise _wrong(bom, "includes itself, or is nested too deeply")
    for name in _texts(bom, members, "includes"):
        _assemble(bom.parent / name, sources, tree, depth - 1)
    excludes = frozenset(_texts(bom, members, "excludes"))
    for target in _mappings(bom, members, "targets"):
        _known(bom, target, _TARGET, "a target")
        folder = target.get("target")
        if not isinstance(folder, str) or not folder.startswith("/"):
            raise _wrong(bom, "each target needs a folder: target: /…")
        if folder.strip("/"):
            tree.folder(folder)
        for name in _texts(bom, target, "mkdirs"):
            tree.folder(_joined(folder, name))
        for copy in _mappings(bom, target, "copy"):
            _known(bom, copy, _COPY, "an entry of copy")
            _copy(bom, copy, folder, sources, tree, excludes)
        for link in _mappings(bom, target, "createlinks"):
            _known(bom, link, _LINK, "an entry of createlinks")
            tree.symlink(_joined(folder, _text(bom, link, "linkname")), _text(bom, link, "src"))


def _copy(
    bom: Path,
    copy: Mapping[str, Any],
    folder: str,
    sources: Path,
    tree: RootFileSystem,
    excludes: frozenset[str],
) -> None:
    start = sources / copy["from"] if "from" in copy else sources
    if not ({"dirs", "files"} & copy.keys()):
        _copy_folder(bom, start, folder, tree, excludes)
    for name in _texts(bom, copy, "dirs"):
        at = start / name
        # A trailing slash copies what is in the folder, without the folder itself.
        _copy_folder(bom, at, folder if name.endswith("/") else _joined(folder, at.name), tree, excludes)
    for entry in copy.get("files") or []:
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict):
            raise _wrong(bom, "files holds names, or mappings with name")
        _known(bom, entry, _FILE, "an entry of files")
        source = start / _text(bom, entry, "name")
        if not source.is_symlink() and not source.is_file():
            raise _wrong(bom, f"names {source}, which is not there")
        expected = entry.get("hash")
        if expected is not None and hashlib.sha256(source.read_bytes()).hexdigest() != str(expected).lower():
            raise _wrong(bom, f"names {source} with another hash than it has")
        tree.take(_joined(folder, str(entry.get("rename") or source.name)), source)


def _copy_folder(bom: Path, at: Path, below: str, tree: RootFileSystem, excludes: frozenset[str]) -> None:
    if not at.is_dir():
        raise _wrong(bom, f"names the folder {at}, which is not there")
    if below.strip("/"):
        tree.folder(below)
    for found in _walk(at, excludes):
        path = _joined(below, found.relative_to(at).as_posix())
        if found.is_dir() and not found.is_symlink():
            tree.folder(path)
        else:
            tree.take(path, found)


def _walk(folder: Path, excludes: frozenset[str]) -> Iterator[Path]:
    for found in sorted(folder.iterdir()):
        if found.name in excludes:
            continue
        yield found
        if found.is_dir() and not found.is_symlink():
            yield from _walk(found, excludes)


def _joined(folder: str, name: str) -> str:
    return posixpath.join(folder, name)


def _known(bom: Path, members: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(map(str, members.keys() - known))
    if unknown:
        raise _wrong(bom, f"{what} has the unknown key {unknown[0]}")


def _texts(bom: Path, members: Mapping[str, Any], name: str) -> list[str]:
    values = members.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _wrong(bom, f"{name} must be a list of texts")
    return values


def _mappings(bom: Path, members: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    values = members.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _wrong(bom, f"{name} must be a list of mappings")
    return values


def _text(bom: Path, members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(bom, f"{name} must be a text")
    return value


def _wrong(bom: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"bill of materials {bom}: {problem}", next_step="correct the bill")
