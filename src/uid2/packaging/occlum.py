"""Occlum's tool chain: the four commands that turn a root file system into a signed enclave (enclave chapter, 6.2)."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from uid2.protocol.errors import ConfigurationError, DependencyError

LIBRARY: Final = Path("build/lib/libocclum-libos.signed.so")
PROGRAMS: Final = ("occlum", "/opt/occlum/build/bin/occlum")
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LD_LIBRARY_PATH", "SOURCE_DATE_EPOCH")

# Runs a command line in a folder with exactly these variables; gives its exit code.
Run = Callable[[Sequence[str], Path, Mapping[str, str]], int]


class SgxMode(StrEnum):
    HARDWARE = "HW"
    SIMULATION = "SIM"


@dataclass(frozen=True, slots=True)
class EnclaveInputs:
    """What an enclave is built from. `signing_key` is a PEM file: RSA, 3,072 bits, exponent 3."""

    root_filesystem: Path
    occlum_json: bytes
    signing_key: Path
    mode: SgxMode = SgxMode.HARDWARE
    debuggable: bool = False


def find_occlum() -> str | None:
    """The command `occlum`, if its tool chain is on this machine."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def run_command(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    return subprocess.run(command, cwd=folder, env=dict(environment), check=False).returncode


def build_enclave(inputs: EnclaveInputs, instance: Path, package: str, *, occlum: str, run: Run = run_command) -> Path:
    """Makes `instance`, signs it and packs it; gives the path of `<instance>/<package>.tar.gz`.

    A tool that fails leaves no instance behind. ConfigurationError, DependencyError.
    """
    if inputs.mode is SgxMode.SIMULATION and not inputs.debuggable:
        raise ConfigurationError(
            "Occlum packs enclaves of its simulation mode as debuggable ones only",
            next_step="build for hardware, or add --debug to a local build",
        )
    if instance.exists():
        raise ConfigurationError(f"{instance} exists already", next_step="remove it: Occlum never deletes old files")
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}

    def step(*arguments: str, folder: Path = instance) -> None:
        code = run((occlum, *arguments), folder, environment)
        if code != 0:
            raise DependencyError(
                f"occlum {arguments[0]} ended with code {code}", next_step="read its output above; check the SGX set-up"
            )

    instance.parent.mkdir(parents=True, exist_ok=True)
    try:
        step("new", instance.name, folder=instance.parent)
        (instance / "Occlum.json").write_bytes(inputs.occlum_json)
        # Over what `occlum new` laid there: its C library stays.
        shutil.copytree(inputs.root_filesystem, instance / "image", symlinks=True, dirs_exist_ok=True)
        step(
            "build",
            "--sign-key",
            str(inputs.signing_key.resolve()),
            "--sgx-mode",
            inputs.mode.value,
            "--enable-edmm",
            "N",
        )
        _expect(instance / LIBRARY, "occlum build")
        step("package", package, *(("--debug",) if inputs.debuggable else ()))
        _expect(instance / f"{package}.tar.gz", "occlum package")
    except BaseException:
        shutil.rmtree(instance, ignore_errors=True)
        raise
    return instance / f"{package}.tar.gz"


def _expect(file: Path, command: str) -> None:
    if not file.is_file():
        raise DependencyError(f"{command} made no {file.name}", next_step="check that this is Occlum 0.31")
