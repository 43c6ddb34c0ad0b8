"""A root file system before it is written anywhere: paths, content, and one bit of mode.

Owners, times and the other mode bits are not part of it, so that no machine leaves a mark (enclave chapter, 8.4).
"""

import hashlib
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

from uid2.packaging.archive_tree import checked_path
from uid2.packaging.sigstruct import EnclaveFileError

FOLDER_MODE: Final = 0o755
PROGRAM_MODE: Final = 0o755
FILE_MODE: Final = 0o644
LINK_MODE: Final = 0o777

NodeKind = Literal["folder", "file", "symlink"]


@dataclass(frozen=True, slots=True)
class Node:
    """`content` is the bytes themselves or the file that holds them; `target` is where a symlink leads."""

    kind: NodeKind
    executable: bool = False
    content: bytes | Path = field(default=b"", repr=False)
    target: str = ""

    @property
    def mode(self) -> int:
        if self.kind == "folder":
            return FOLDER_MODE
        if self.kind == "symlink":
            return LINK_MODE
        return PROGRAM_MODE if self.executable else FILE_MODE

    @property
    def size(self) -> int:
        if isinstance(self.content, Path):
            return self.content.stat().st_size
        return len(self.content)

    def read(self) -> bytes:
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    def open(self) -> IO[bytes]:
        import io

        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)

    def digest(self) -> str:
        """SHA-256 in hex."""
        with self.open() as source:
            return hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # both kinds are readable


class RootFileSystem:
    """Nodes by path without a leading slash. Parents of a node are made with it."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __len__(self) -> int:
        return len(self._nodes)

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Sorted by the bytes of the path, each folder before what is in it."""
        yield from sorted(self._nodes.items(), key=lambda item: item[0].encode().split(b"/"))

    def files(self) -> Iterator[tuple[str, Node]]:
        return ((path, node) for path, node in self.nodes() if node.kind == "file")

    def folder(self, path: str) -> None:
        for above in _prefixes(_checked(path)):
            known = self._nodes.setdefault(above, Node("folder"))
            if known.kind == "file":
                raise EnclaveFileError(f"root file system: {above} is a file and cannot hold anything")

    def file(self, path: str, content: bytes | Path, *, executable: bool = False) -> None:
        self._place(path, Node("file", executable, content))

    def symlink(self, path: str, target: str) -> None:
        self._place(path, Node("symlink", target=target))

    def take(self, path: str, source: Path) -> None:
        """One file or link of the machine. Its owner's x bit counts, as the umask leaves that one alone."""
        if source.is_symlink():
            self.symlink(path, str(source.readlink()))
        else:
            facts = source.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise EnclaveFileError(f"{source} is no file and cannot be packed")
            if facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
                raise EnclaveFileError(f"{source} has a setuid or setgid bit", next_step="take the bit away")
            self.file(path, source, executable=bool(facts.st_mode & stat.S_IXUSR))

    def put_tree(self, below: str, other: "RootFileSystem") -> None:
        """Everything of `other`, under the folder `below`."""
        prefix = f"{_checked(below)}/" if below.strip("/") else ""
        if prefix:
            self.folder(below)
        for path, node in other.nodes():
            if node.kind == "folder":
                self.folder(prefix + path)
            else:
                self._place(prefix + path, node)

    def remove(self, path: str) -> None:
        self._nodes.pop(path, None)

    def leads_to(self, path: str) -> str | None:
        """The path after all symlinks, or None when nothing is there. Links that leave the root stay inside it."""
        parts, done, steps = [part for part in path.split("/") if part], "", 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            if part == ".":
                continue
            at = f"{done}/{part}".lstrip("/")
            node = self._nodes.get(at)
            if node is None:
                return None
            if node.kind != "symlink":
                done = at
                continue
            steps += 1
            if steps > 40:
                return None
            if node.target.startswith("/"):
                done = ""
            parts = [piece for piece in node.target.split("/") if piece] + parts
        return done

    def write_to(self, folder: Path) -> None:
        """Lays everything out below `folder`, with normalised modes; for tools that read folders."""
        for path, node in self.nodes():
            target = folder / path
            if node.kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
                target.chmod(FOLDER_MODE)
            elif node.kind == "symlink":
                target.symlink_to(node.target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with node.open() as source, target.open("xb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
                target.chmod(node.mode)

    def _place(self, path: str, node: Node) -> None:
        path = _checked(path)
        above = path.rpartition("/")[0]
        if above:
            self.folder(above)
        known = self._nodes.get(path)
        if known is not None and known.kind == "folder":
            raise EnclaveFileError(f"root file system: {path} is a folder already")
        if known is not None and known != node:
            raise EnclaveFileError(
                f"root file system: two different files for /{path}", next_step="give one of them another target"
            )
        self._nodes[path] = node


def _checked(path: str) -> str:
    found = checked_path(path.lstrip("/"))
    if not found:
        raise EnclaveFileError("root file system: a node without a path")
    return found


def _prefixes(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
    yield path
