"""The modules of ours that go into the enclave: what the operator imports, directly or not, and nothing else."""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError

ENTRY: Final = "uid2.operator.__main__"
NATIVE: Final = "uid2_native"
KEPT_OUT: Final = (
    "uid2.admin",
    "uid2.cli",
    "uid2.core",
    "uid2.devstack",
    "uid2.optout",
    "uid2.packaging",
    "uid2.simtee",
)
_DATA_SUFFIXES: Final = (".json", ".typed")


@dataclass(frozen=True, slots=True)
class Application:
    """`modules` by name, with their files; `libraries` are the top-level names of others' modules that they import."""

    modules: dict[str, Path]
    data: tuple[Path, ...]
    libraries: frozenset[str]


def trace_application(source: Path, entry: str = ENTRY) -> Application:
    """Follows every import statement, those inside functions too, from `entry`. `source` holds the package `uid2`.

    EnclaveFileError: a module that must stay outside of the enclave would come with it.
    """
    modules: dict[str, Path] = {}
    libraries: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        file = _file_of(source, name)
        if file is None:
            continue
        outside = next((kept for kept in KEPT_OUT if name == kept or name.startswith(f"{kept}.")), None)
        if outside is not None:
            raise EnclaveFileError(
                f"the operator imports {name}, which must stay outside of the enclave",
                next_step=f"take the import of {name} away, or move what is needed to uid2.service",
            )
        modules[name] = file
        waiting += _with_parents(name)
        for imported in _imports(file, name):
            if imported.split(".")[0] == "uid2":
                waiting += _with_parents(imported)
            else:
                libraries.add(imported.split(".")[0])
    folders = {file.parent for file in modules.values()}
    data = sorted(
        found
        for folder in folders
        for found in folder.iterdir()
        if found.suffix in _DATA_SUFFIXES and found.name != "py.typed"
    )
    return Application(modules, tuple(data), frozenset(libraries - sys.stdlib_module_names - {NATIVE}))


def place_application(application: Application, source: Path, tree: RootFileSystem, below: str) -> None:
    """Modules and data at their places under `below` (a site-packages folder)."""
    for file in (*application.modules.values(), *application.data):
        tree.file(f"{below}/{file.relative_to(source).as_posix()}", file)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _file_of(source: Path, name: str) -> Path | None:
    """None for a name inside a module, such as a class."""
    path = source.joinpath(*name.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    file = path.with_suffix(".py") if path.name else path
    return file if file.is_file() else None


def _imports(file: Path, name: str) -> list[str]:
    found: list[str] = []
    tree = ast.parse(file.read_bytes(), str(file))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
    return found


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
