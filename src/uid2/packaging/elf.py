"""Whether every ELF file of a root file system loads under Occlum's C library (enclave chapter, 6.4)."""

import io
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError

NEWEST_GLIBC: Final = (2, 31)
LIBRARY_FOLDERS: Final = (
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
    "opt/occlum/glibc/lib",
    "opt/python/lib",
)
_MAGIC: Final = b"\x7fELF"
_GLIBC: Final = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """`glibc` is the newest version of its symbols that the file needs; `loader` is set for programs alone."""

    machine: str
    kind: str
    loader: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    glibc: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`of_base` findings concern the stand-in for Occlum's base: printed, while all others end the build."""

    path: str
    problem: str
    of_base: bool

    def line(self) -> str:
        return f"{'base: ' if self.of_base else ''}/{self.path}: {self.problem}"


def elf_facts(data: bytes) -> ElfFacts | None:
    """What the dynamic loader will want; None for a file that is no ELF. EnclaveFileError for a damaged one."""
    if data[:4] != _MAGIC:
        return None
    try:
        return _facts(ELFFile(io.BytesIO(data)))
    except (
        ELFError,
        ConstructError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise EnclaveFileError(f"a damaged ELF file: {type(error).__name__}") from None


def check_elf_files(tree: RootFileSystem, of_base: Callable[[str], bool] = lambda _: False) -> tuple[Finding, ...]:
    """Every problem of every ELF file. `of_base` says which paths belong to the base."""
    found: list[Finding] = []
    for path, node in tree.files():
        with node.open() as source:
            if source.read(4) != _MAGIC:
                continue
        try:
            facts = elf_facts(node.read())
        except EnclaveFileError as error:
            found.append(Finding(path, error.message, of_base(path)))
            continue
        if facts is not None:
            found += [Finding(path, problem, of_base(path)) for problem in _problems(tree, path, facts)]
    return tuple(found)


def resolve(tree: RootFileSystem, path: str, facts: ElfFacts, name: str) -> str | None:
    """Where in the tree the loader finds a needed library."""
    own = posixpath.dirname(path)
    for folder in (*(_origin(entry, own) for entry in facts.search), *LIBRARY_FOLDERS):
        found = tree.leads_to(posixpath.join(folder, name))
        if found is not None and tree[found].kind == "file":
            return found
    return None


def _problems(tree: RootFileSystem, path: str, facts: ElfFacts) -> Iterator[str]:
    if facts.machine != "EM_X86_64":
        yield f"is for {facts.machine}, not for x86-64"
    if facts.kind == "ET_EXEC":
        yield "is not position-independent: Occlum loads PIE programs only"
    if facts.glibc > NEWEST_GLIBC:
        needs = ".".join(map(str, facts.glibc))
        newest = ".".join(map(str, NEWEST_GLIBC))
        yield f"needs glibc {needs}; Occlum's is {newest}: build it for that, or take an older wheel"
    if facts.loader and tree.leads_to(facts.loader) is None:
        yield f"wants the loader {facts.loader}, which is not in the image"
    for entry in facts.search:
        if not entry.startswith("$ORIGIN") and tree.leads_to(entry) is None:
            yield f"searches {entry}, which is outside the image (RPATH)"
    for name in facts.needed:
        if resolve(tree, path, facts, name) is None:
            yield f"needs {name}, which is not in the image"


def _origin(entry: str, own: str) -> str:
    return posixpath.normpath(entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", f"/{own}")).lstrip("/")


def _facts(file: Any) -> ElfFacts:
    loader, needed, search = "", [], []
    for segment in file.iter_segments():
        if segment.header.p_type == "PT_INTERP":
            loader = segment.get_interp_name()
        elif segment.header.p_type == "PT_DYNAMIC":
            for tag in segment.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
                    search += [entry.replace("${ORIGIN}", "$ORIGIN") for entry in text.split(":") if entry]
    return ElfFacts(
        machine=file.header.e_machine,
        kind=file.header.e_type,
        loader=loader,
        needed=tuple(needed),
        search=tuple(search),
        glibc=max((version for version in _versions(file)), default=()),
    )


def _versions(file: Any) -> Iterator[tuple[int, ...]]:
    for section in file.iter_sections("SHT_GNU_verneed"):
        for _, auxiliaries in section.iter_versions():
            for auxiliary in auxiliaries:
                matched = _GLIBC.fullmatch(auxiliary.name)
                if matched:
                    yield tuple(int(number) for number in matched.groups() if number is not None)
