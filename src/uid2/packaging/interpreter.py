"""Which CPython goes into the enclave, and the part of it that does (enclave chapter, 6.4).

In this order: PYTHON_PREFIX, a portable build pinned by the digest of what is taken from it; the one that Occlum's tool
chain builds; the machine's own, which Occlum's C library does not load: for builds of base `stub` alone.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from uid2.packaging.file_manifest import file_manifest
from uid2.packaging.image import encode_document
from uid2.packaging.rootfs import RootFileSystem
from uid2.protocol.errors import ConfigurationError, DependencyError

Origin = Literal["portable", "toolchain", "machine"]

PREFIX: Final = "PYTHON_PREFIX"
PREFIX_DIGEST: Final = "PYTHON_PREFIX_SHA256"
HOME: Final = "opt/python"
TOOLCHAIN_PREFIXES: Final = (Path("/opt/occlum/toolchains/python"), Path("/opt/python-occlum"))
MACHINE_PROGRAM: Final = Path("/usr/bin/python3")
OLDEST: Final = (3, 11)
_PROBE: Final = (
    "import json,sys,sysconfig as s;print(json.dumps({'version':list(sys.version_info[:3]),"
    "'stdlib':s.get_path('stdlib'),'program':sys.executable,'shared':s.get_config_var('LDLIBRARY') or '',"
    "'prefix':sys.base_prefix}))"
)
_FOLDERS_LEFT_OUT: Final = frozenset(
    {
        "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "distutils",
        "pydoc_data", "sqlite3", "dbm", "curses", "venv", "xmlrpc", "unittest", "site-packages",
        "dist-packages", "msilib",
    }
)  # fmt: skip
_FILES_LEFT_OUT: Final = frozenset(
    {"turtle.py", "pydoc.py", "doctest.py", "antigravity.py", "this.py", "sitecustomize.py", "EXTERNALLY-MANAGED",
     "LICENSE.txt", "cProfile.py", "profile.py", "pstats.py", "webbrowser.py", "telnetlib.py", "nntplib.py"}
)  # fmt: skip
_EXTENSIONS_LEFT_OUT: Final = re.compile(
    r"(_test|xx|_xx|_ctypes_test|_tkinter|_sqlite3|readline|_curses|_dbm|_gdbm|nis|ossaudiodev|audioop|_crypt|_lsprof"
    r"|_codecs_(cn|hk|iso2022|jp|kr|tw)|_multibytecodec|spwd)"
)

Probe = Callable[[Sequence[str]], str | None]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`finding` says which one it is and what that means; `shared` names its libpython, empty when it is static."""

    program: Path
    prefix: Path
    stdlib: Path
    shared: str
    version: tuple[int, int, int]
    origin: Origin
    finding: str

    @property
    def short_version(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def full_version(self) -> str:
        return ".".join(map(str, self.version))


def run_program(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def choose_interpreter(environ: Mapping[str, str], probe: Probe = run_program) -> Interpreter:
    """ConfigurationError: PYTHON_PREFIX without an interpreter of its own. DependencyError: none is new enough."""
    given = environ.get(PREFIX)
    if given:
        prefix = Path(given).resolve()
        found = _probed(prefix / "bin/python3", "portable", f"portable CPython {{version}} from {PREFIX}", probe)
        if found is None or not found.stdlib.is_relative_to(prefix):
            raise ConfigurationError(
                f"{PREFIX}: {prefix} holds no CPython {OLDEST[0]}.{OLDEST[1]} or newer that stands alone",
                next_step=f"unpack a portable build and name its folder, or unset {PREFIX}",
            )
        _check_pin(found, environ.get(PREFIX_DIGEST))
        return found
    for prefix in TOOLCHAIN_PREFIXES:
        found = _probed(prefix / "bin/python3", "toolchain", "CPython {version} built by Occlum's tool chain", probe)
        if found is not None:
            return found
    note = "CPython {version} of this machine: its C library is newer than Occlum's, so the base is a stub"
    found = _probed(MACHINE_PROGRAM, "machine", note, probe)
    if found is None:
        raise DependencyError(
            f"no {MACHINE_PROGRAM} of version {OLDEST[0]}.{OLDEST[1]} or newer",
            next_step=f"install python3, or set {PREFIX} to a portable CPython",
        )
    return found


def place_interpreter(interpreter: Interpreter, tree: RootFileSystem) -> None:
    """Program, standard library and extension modules, without what no server uses, under /opt/python."""
    name = f"python{interpreter.short_version}"
    tree.file(f"{HOME}/bin/{name}", interpreter.program.resolve(), executable=True)
    tree.symlink(f"{HOME}/bin/python3", name)
    tree.symlink(f"{HOME}/bin/python", name)
    library = f"{HOME}/lib/{name}"
    for file in _standard_library(interpreter.stdlib):
        tree.take(f"{library}/{file.relative_to(interpreter.stdlib).as_posix()}", file.resolve())
    tree.folder(f"{library}/site-packages")
    if interpreter.origin == "machine":
        # Debian's Python looks here instead.
        tree.symlink(f"{library}/dist-packages", "site-packages")
    if interpreter.origin != "machine":
        for found in sorted((interpreter.prefix / "lib").glob("lib*.so*")):
            tree.take(f"{HOME}/lib/{found.name}", found)


def _standard_library(folder: Path) -> Iterator[Path]:
    for found in sorted(folder.iterdir()):
        if found.is_dir():
            if found.name not in _FOLDERS_LEFT_OUT and not found.name.startswith("config-"):
                yield from _standard_library(found)
        elif found.suffix == ".so":
            if not _EXTENSIONS_LEFT_OUT.match(found.name):
                yield found
        elif found.suffix == ".py" and found.name not in _FILES_LEFT_OUT:
            yield found


def _probed(program: Path, origin: Origin, finding: str, probe: Probe) -> Interpreter | None:
    printed = probe([str(program), "-I", "-c", _PROBE]) if program.exists() else None
    if printed is None:
        return None
    facts = json.loads(printed)
    version = tuple(facts["version"])
    if version[:2] < OLDEST:
        return None
    shared = facts["shared"] if str(facts["shared"]).startswith("libpython") and ".so" in facts["shared"] else ""
    return Interpreter(
        program=Path(facts["program"]),
        prefix=Path(facts["prefix"]),
        stdlib=Path(facts["stdlib"]),
        shared=shared,
        version=(version[0], version[1], version[2]),
        origin=origin,
        finding=finding.format(version=".".join(map(str, version))),
    )


def _check_pin(interpreter: Interpreter, pinned: str | None) -> None:
    tree = RootFileSystem()
    place_interpreter(interpreter, tree)
    found = hashlib.sha256(encode_document(file_manifest(tree))).hexdigest()
    if pinned is None or pinned.lower() != found:
        raise ConfigurationError(
            f"{PREFIX} is not the CPython that {PREFIX_DIGEST} pins" if pinned else f"{PREFIX} is not pinned",
            next_step=f"check where it comes from, then set {PREFIX_DIGEST}={found}",
        )
