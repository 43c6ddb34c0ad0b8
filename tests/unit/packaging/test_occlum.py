"""Occlum's commands, against a recording double that makes the files they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from uid2.packaging.occlum import LIBRARY, EnclaveInputs, SgxMode, build_enclave
from uid2.protocol.errors import ConfigurationError, DependencyError


class RecordingOcclum:
    def __init__(self, fail_at: str = "", silent_at: str = "") -> None:
        self.lines: list[list[str]] = []
        self.folders: list[Path] = []
        self.environments: list[Mapping[str, str]] = []
        self.fail_at, self.silent_at = fail_at, silent_at

    def __call__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
        self.lines.append(list(command))
        self.folders.append(folder)
        self.environments.append(environment)
        verb = command[1]
        if verb == self.fail_at:
            return 3
        if verb == self.silent_at:
            return 0
        if verb == "new":
            (folder / command[2] / "image" / "lib").mkdir(parents=True)
            (folder / command[2] / "image" / "lib" / "libc.so").write_text("of the tool chain")
        elif verb == "build":
            (folder / LIBRARY).parent.mkdir(parents=True)
            (folder / LIBRARY).write_bytes(b"signed")
        else:
            (folder / f"{command[2]}.tar.gz").write_bytes(b"package")
        return 0


@pytest.fixture
def inputs(tmp_path: Path) -> EnclaveInputs:
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "launcher").write_text("launcher")
    (root / "bin" / "python3").symlink_to("/opt/python/bin/python3")
    return EnclaveInputs(root, b"{}", tmp_path / "key.pem")


def test_the_commands_in_order(inputs: EnclaveInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "evil.so")
    occlum, instance = RecordingOcclum(), tmp_path / "work" / "uid2-operator"
    package = build_enclave(inputs, instance, "uid2-operator", occlum="/opt/occlum/build/bin/occlum", run=occlum)
    program, key = "/opt/occlum/build/bin/occlum", str((tmp_path / "key.pem").resolve())
    assert occlum.lines == [
        [program, "new", "uid2-operator"],
        [program, "build", "--sign-key", key, "--sgx-mode", "HW", "--enable-edmm", "N"],
        [program, "package", "uid2-operator"],
    ]
    assert occlum.folders == [instance.parent, instance, instance]
    assert all("LD_PRELOAD" not in environment for environment in occlum.environments)
    assert package.read_bytes() == b"package"
    assert (instance / "Occlum.json").read_bytes() == b"{}"
    assert (instance / "image" / "bin" / "python3").is_symlink()
    assert (instance / "image" / "lib" / "libc.so").exists()


def test_a_debuggable_simulation_says_so_to_both_commands(inputs: EnclaveInputs, tmp_path: Path) -> None:
    occlum = RecordingOcclum()
    simulated = EnclaveInputs(inputs.root_filesystem, b"{}", inputs.signing_key, SgxMode.SIMULATION, debuggable=True)
    build_enclave(simulated, tmp_path / "work", "p", occlum="occlum", run=occlum)
    assert "SIM" in occlum.lines[1]
    assert occlum.lines[2] == ["occlum", "package", "p", "--debug"]


@pytest.mark.parametrize("verb", ["new", "build", "package"])
def test_a_failing_command_is_named_and_leaves_nothing(inputs: EnclaveInputs, tmp_path: Path, verb: str) -> None:
    with pytest.raises(DependencyError, match=f"occlum {verb} ended with code 3"):
        build_enclave(inputs, tmp_path / "work", "p", occlum="occlum", run=RecordingOcclum(fail_at=verb))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("verb", ["build", "package"])
def test_a_command_that_makes_nothing_is_no_success(inputs: EnclaveInputs, tmp_path: Path, verb: str) -> None:
    with pytest.raises(DependencyError, match=f"occlum {verb} made no"):
        build_enclave(inputs, tmp_path / "work", "p", occlum="occlum", run=RecordingOcclum(silent_at=verb))
    assert not (tmp_path / "work").exists()


def test_an_old_instance_is_not_built_over(inputs: EnclaveInputs, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    occlum = RecordingOcclum()
    with pytest.raises(ConfigurationError, match="exists already"):
        build_enclave(inputs, tmp_path / "work", "p", occlum="occlum", run=occlum)
    assert occlum.lines == []
    assert (tmp_path / "work").exists()


def test_a_simulation_that_claims_release_is_refused(inputs: EnclaveInputs, tmp_path: Path) -> None:
    release = EnclaveInputs(inputs.root_filesystem, b"{}", inputs.signing_key, SgxMode.SIMULATION)
    with pytest.raises(ConfigurationError, match="debuggable"):
        build_enclave(release, tmp_path / "work", "p", occlum="occlum", run=RecordingOcclum())
