"""What a build without Occlum has in the place of Occlum's C library: this machine's, for the sandbox alone."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from uid2.packaging.elf import elf_facts, resolve
from uid2.packaging.rootfs import RootFileSystem
from uid2.protocol.errors import DependencyError

LIBRARIES: Final = "lib/x86_64-linux-gnu"
LOADER: Final = "lib64/ld-linux-x86-64.so.2"
_LINE: Final = re.compile(r"\s*(\S+) \(libc6,x86-64.*\) => (\S+)")

Libraries = Callable[[], Mapping[str, Path]]


def machine_libraries() -> dict[str, Path]:
    """By name, as the loader's cache has them. DependencyError without one."""
    try:
        printed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise DependencyError("/sbin/ldconfig -p does not work here", next_step="build on a Debian or Ubuntu") from None
    found: dict[str, Path] = {}
    for line in printed.splitlines():
        matched = _LINE.match(line)
        if matched:
            found.setdefault(matched[1], Path(matched[2]))
    return found


def place_machine_libraries(tree: RootFileSystem, libraries: Libraries = machine_libraries) -> frozenset[str]:
    """Adds the loader and, over and over, what the ELF files of the tree still need; gives the paths added.

    A library that this machine lacks is left to the check of ELF files, which names it.
    """
    known = libraries()
    added: set[str] = set()
    waiting = [path for path, _ in tree.files()]
    while waiting:
        path = waiting.pop()
        node = tree[path]
        with node.open() as source:
            if source.read(4) != b"\x7fELF":
                continue
        facts = elf_facts(node.read())
        if facts is None:
            continue
        if facts.loader and LOADER not in tree:
            tree.file(LOADER, Path(facts.loader).resolve(), executable=True)
            added.add(LOADER)
        for name in facts.needed:
            if resolve(tree, path, facts, name) is None and name in known:
                target = f"{LIBRARIES}/{name}"
                tree.file(target, known[name].resolve())
                added.add(target)
                waiting.append(target)
    return frozenset(added)
