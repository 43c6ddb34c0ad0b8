"""The checker of ELF files, on a library of this environment and on versions of it that are spoilt."""

import struct
import sys
from pathlib import Path

import msgspec
import pytest

from uid2.packaging.elf import ElfFacts, Finding, _problems, check_elf_files, elf_facts, resolve
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError

LIBRARY = next(Path(msgspec.__file__).parent.glob("_core*.so")).read_bytes()
FACTS = elf_facts(LIBRARY)
assert FACTS is not None
TYPE_AT, MACHINE_AT = 16, 18


def tree_with(data: bytes, *, complete: bool = True) -> RootFileSystem:
    tree = RootFileSystem()
    tree.file("app/library.so", data)
    tree.file("app/text.so", b"no ELF at all")
    if complete and FACTS is not None:
        for name in FACTS.needed:
            tree.file(f"usr/lib/x86_64-linux-gnu/{name}", b"")
        tree.symlink("lib", "usr/lib")
    return tree


def problems(tree: RootFileSystem) -> list[str]:
    return [finding.line() for finding in check_elf_files(tree)]


def test_a_wheels_library_passes() -> None:
    assert FACTS is not None
    assert (FACTS.machine, FACTS.kind, FACTS.loader) == ("EM_X86_64", "ET_DYN", "")
    assert "libc.so.6" in FACTS.needed
    assert (2, 2) <= FACTS.glibc <= (2, 28)
    assert problems(tree_with(LIBRARY)) == []


def test_a_newer_glibc_is_named() -> None:
    assert FACTS is not None
    version = "GLIBC_" + ".".join(map(str, FACTS.glibc))
    newer = LIBRARY.replace(version.encode() + b"\0", b"GLIBC_2.99".ljust(len(version), b"9") + b"\0")
    (line,) = problems(tree_with(newer))
    assert line.startswith("/app/library.so: needs glibc 2.99")
    assert "2.31" in line


def test_programs_that_are_not_position_independent_and_other_machines() -> None:
    fixed = LIBRARY[:TYPE_AT] + struct.pack("<H", 2) + LIBRARY[TYPE_AT + 2 :]
    assert "PIE" in problems(tree_with(fixed))[0]
    arm = LIBRARY[:MACHINE_AT] + struct.pack("<H", 183) + LIBRARY[MACHINE_AT + 2 :]
    assert "EM_AARCH64" in problems(tree_with(arm))[0]


def test_missing_libraries_are_named() -> None:
    assert FACTS is not None
    found = problems(tree_with(LIBRARY, complete=False))
    assert found == [f"/app/library.so: needs {name}, which is not in the image" for name in FACTS.needed]


def test_rpath_and_loader() -> None:
    tree = RootFileSystem()
    tree.file("app/libs/libx.so", b"")
    tree.folder("opt/inside")
    facts = ElfFacts("EM_X86_64", "ET_DYN", "/lib64/ld.so", ("libx.so",), ("$ORIGIN/../libs", "/opt/inside"), ())
    assert resolve(tree, "app/bin/p", facts, "libx.so") == "app/libs/libx.so"
    assert list(_problems(tree, "app/bin/p", facts)) == ["wants the loader /lib64/ld.so, which is not in the image"]
    outside = ElfFacts("EM_X86_64", "ET_DYN", "", (), ("/home/someone/lib",), ())
    assert list(_problems(tree, "app/bin/p", outside)) == [
        "searches /home/someone/lib, which is outside the image (RPATH)"
    ]


def test_the_base_is_told_apart() -> None:
    tree = tree_with(LIBRARY, complete=False)
    assert all(finding.of_base for finding in check_elf_files(tree, lambda path: path.startswith("app/")))
    assert Finding("lib/x", "is old", of_base=True).line() == "base: /lib/x: is old"


def test_damage_is_a_finding_and_never_an_exception() -> None:
    with pytest.raises(EnclaveFileError, match="damaged"):
        elf_facts(b"\x7fELF" + b"\xff" * 100)
    for at in range(4, 64):
        spoilt = LIBRARY[:at] + bytes([LIBRARY[at] ^ 0xFF]) + LIBRARY[at + 1 :]
        try:
            assert elf_facts(spoilt) is not None
        except EnclaveFileError:
            continue
    for size in [*range(4, 400, 7), len(LIBRARY) // 2, len(LIBRARY) - 1]:
        assert len(check_elf_files(tree_with(LIBRARY[:size]))) >= 0
    assert elf_facts(Path(__file__).read_bytes()) is None
    assert sys.byteorder == "little"
