"""The shell scripts of the package, with doubles of the machine around them."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
AZURE = ROOT / "scripts/azure"
DIGEST = "occlum@sha256:" + "ab" * 32


def script(path: Path, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
    return subprocess.run(["bash", path, *words], capture_output=True, text=True, check=False, env=variables)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_every_script_is_clean() -> None:
    files = [*AZURE.glob("*.sh"), AZURE / "files/run.sh", ROOT / "setup_dependencies.sh", ROOT / "rust/build.sh"]
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A machine with everything: devices, memory, an instance."""
    for name in ("dev/sgx", "proc", "instance", "var/run/aesmd"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("enclave", "provision"):
        (tmp_path / "dev/sgx" / name).touch()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       32870000 kB\n")
    return tmp_path


def start(container: Path, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    good = {"core_api_token": "UID2-O-P-1-abc.def", "optout_api_token": "UID2-O-P-1-abc.def"}
    places = {"UID2_HOST_ROOT": str(container), "UID2_INSTANCE": str(container / "instance")}
    command = words or ("echo", "run", "/bin/launcher")
    return script(AZURE / "files/run.sh", *command, **(good | places | environ))


def test_a_good_container_starts_without_a_word(container: Path) -> None:
    done = start(container)
    assert (done.returncode, done.stdout, done.stderr) == (0, "run /bin/launcher\n", "")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"core_api_token": ""}, "core_api_token is empty"),
        ({"optout_api_token": ""}, "optout_api_token is empty"),
        ({"core_api_token": "x" * 513}, "longer than 512"),
        ({"core_api_token": "kéy"}, "no operator key has"),
        ({"core_api_token": "key\n"}, "no operator key has"),
        ({"SGX_AESM_ADDR": "1"}, "aesm.socket"),
    ],
)
def test_what_is_missing_is_named_with_its_fix_and_never_shown(
    container: Path, environ: dict[str, str], message: str
) -> None:
    done = start(container, **environ)
    assert done.returncode == 0
    assert message in done.stderr
    assert "fix: " in done.stderr
    assert "abc.def" not in done.stderr
    assert "kéy" not in done.stderr


def test_devices_memory_and_socket(container: Path) -> None:
    (container / "proc/meminfo").write_text("MemTotal:       8000000 kB\n")
    (container / "dev/sgx/enclave").unlink()
    (container / "dev/sgx/provision").unlink()
    told = start(container).stderr
    assert "no SGX enclave device" in told
    assert "no SGX provision device" in told
    assert "7 GiB of memory" in told
    (container / "dev/sgx_enclave").touch()
    (container / "dev/sgx_provision").touch()
    (container / "proc/meminfo").unlink()
    assert start(container).stderr == ""
    with socket.socket(socket.AF_UNIX) as aesm:
        before = os.getcwd()
        os.chdir(container / "var/run/aesmd")
        try:
            aesm.bind("aesm.socket")
        finally:
            os.chdir(before)
        assert start(container, SGX_AESM_ADDR="1").stderr == ""


def test_another_program_needs_no_tokens_and_its_status_is_passed_on(container: Path) -> None:
    done = start(container, "bash", "-c", "exit 7", core_api_token="", optout_api_token="")
    assert (done.returncode, done.stderr) == (7, "")
    shutil.rmtree(container / "instance")
    assert start(container).returncode == 2


def test_a_build_machine_is_prepared_by_digest_and_dry(tmp_path: Path) -> None:
    setup = AZURE / "setup_build_vm.sh"
    (tmp_path / "os").write_text('ID=ubuntu\nVERSION_ID="20.04"\n')
    (tmp_path / "cpu").write_text("flags : fpu sgx\n")
    machine = {"OS_RELEASE": str(tmp_path / "os"), "CPUINFO": str(tmp_path / "cpu")}
    done = script(setup, "--dry-run", OCCLUM_IMAGE=DIGEST, **machine)
    assert done.returncode == 0, done.stderr
    assert f"docker pull {DIGEST}" in done.stdout
    assert "apt-get install" in done.stdout
    assert "no SGX device" in done.stderr or Path("/dev/sgx_enclave").exists()
    assert "is no LTS" not in done.stderr
    for image in ("", "occlum/occlum:0.31.0-ubuntu20.04", "occlum@sha256:ab"):
        refused = script(setup, "--dry-run", OCCLUM_IMAGE=image, **machine)
        assert refused.returncode == 2
        assert "next step" in refused.stderr
        assert "apt-get" not in refused.stdout
    assert script(setup, "--now", OCCLUM_IMAGE=DIGEST).returncode == 2


@pytest.mark.parametrize("value", ["", "gcp"])
def test_dependencies_are_for_a_named_platform(value: str) -> None:
    done = script(ROOT / "setup_dependencies.sh", enclave_platform=value)
    assert done.returncode == 2
    assert "export enclave_platform=azure-sgx" in done.stderr
