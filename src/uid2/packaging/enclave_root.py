"""The root file system of the enclave, put together from its parts (enclave chapter, 6.3, 6.4)."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.packaging.application import Application, place_application, trace_application
from uid2.packaging.baked_config import BakedConfig
from uid2.packaging.bom import assemble
from uid2.packaging.elf import Finding, check_elf_files
from uid2.packaging.interpreter import HOME, Interpreter, place_interpreter
from uid2.packaging.occlum_config import MIB, EnclaveSizes
from uid2.packaging.parts import LAUNCHER, NATIVE_MODULE, SGX_QUOTE, Parts
from uid2.packaging.rootfs import RootFileSystem
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.packaging.stub_base import place_machine_libraries
from uid2.packaging.wheels import place_wheel, top_level_names
from uid2.protocol.errors import DependencyError

BILL: Final = "bom.yaml"
_LAUNCHER_SPACE: Final = 64 * MIB

# Runs a command line without variables but PYTHONHASHSEED=0; gives its exit code.
Compile = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class EnclaveRoot:
    """`findings` of the ELF files concern the base alone: others end the build. `base_paths` are those of a stub."""

    tree: RootFileSystem
    findings: tuple[Finding, ...]
    base_paths: frozenset[str]
    application: Application


def run_compiler(command: Sequence[str]) -> int:
    return subprocess.run(command, env={"PYTHONHASHSEED": "0"}, check=False).returncode


def enclave_root(
    root: Path,
    stage: Path,
    parts: Parts,
    interpreter: Interpreter,
    config: BakedConfig,
    sizes: EnclaveSizes,
    *,
    stub: bool,
    stores: Path | None = None,
    compile_python: Compile = run_compiler,
) -> EnclaveRoot:
    """Lays the parts out in the folder `stage`, then takes from it what the bill names.

    EnclaveFileError: a library that no wheel brings, or a file of ours or of a wheel that Occlum could not load.
    """
    if parts.python != interpreter.short_version:
        raise EnclaveFileError(
            f"the wheels are for Python {parts.python}, the interpreter is {interpreter.full_version}",
            next_step="run make package PROFILE=azure with the same PYTHON_PREFIX",
        )
    application = trace_application(root / "src")
    _check_libraries(application, parts)
    python = RootFileSystem()
    place_interpreter(interpreter, python)
    packages = f"{HOME}/lib/python{interpreter.short_version}/site-packages"
    for wheel in parts.wheels:
        place_wheel(wheel, python, packages)
    python.file(f"{packages}/{NATIVE_MODULE}", parts.native_module)
    place_application(application, root / "src", python, packages)
    for name, source in ((LAUNCHER, parts.launcher), (SGX_QUOTE, parts.sgx_quote)):
        python.file(f"bin/{name}", source, executable=True)
    python.file("conf/config.json", config.data)
    python.file("conf/limits", limits_file(sizes))
    python.write_to(stage)
    _compile(interpreter, stage / HOME, compile_python)
    tree = assemble(root / "scripts/azure" / BILL, stage)
    if stores is not None:
        for file in sorted(stores.rglob("*")):
            if file.is_file():
                tree.file(f"app/stores/{file.relative_to(stores).as_posix()}", file)
    data_folder = config.members.get("optout_data_dir")
    if isinstance(data_folder, str) and data_folder.startswith("/"):
        tree.folder(data_folder)
    base_paths = place_machine_libraries(tree) if stub else frozenset()
    of_interpreter = frozenset(f"{HOME}/{path}" for path in ("bin", "lib/python")) if stub else frozenset()

    def of_base(path: str) -> bool:
        ours = path.startswith(f"{packages}/")
        return path in base_paths or (not ours and path.startswith(tuple(of_interpreter)))

    findings = check_elf_files(tree, of_base)
    wrong = [finding for finding in findings if not finding.of_base]
    if wrong:
        raise EnclaveFileError(
            "files that Occlum cannot load:\n  " + "\n  ".join(finding.line() for finding in wrong),
            next_step="pin an older wheel in requirements/enclave.in, or build the part for glibc 2.31",
        )
    return EnclaveRoot(tree, findings, base_paths, application)


def limits_file(sizes: EnclaveSizes) -> bytes:
    """What the launcher sets. The data segment keeps Occlum's own default, as Linux counts it differently."""
    space = sizes.user_space.value - _LAUNCHER_SPACE
    return f"address_space {space}\nstack {sizes.stack.value}\n".encode()


def _check_libraries(application: Application, parts: Parts) -> None:
    brought = frozenset(name for wheel in parts.wheels for name in top_level_names(wheel))
    missing = sorted(application.libraries - brought)
    if missing:
        raise EnclaveFileError(
            f"the operator imports {missing[0]}, which no wheel of the image brings",
            next_step="add it to requirements/enclave.in and run requirements/compile.sh",
        )


def _compile(interpreter: Interpreter, home: Path, compile_python: Compile) -> None:
    """Byte code that is never checked against its source: nothing can change inside, and times do not count."""
    library = home / "lib" / f"python{interpreter.short_version}"
    command = [str(interpreter.program), "-s", "-B", "-m", "compileall", "-q", "-q", "-j", "1"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(home), "-p", f"/{HOME}", str(library)]
    if compile_python(command) != 0:
        raise DependencyError("Python's byte code could not be compiled", next_step="read the message above")
