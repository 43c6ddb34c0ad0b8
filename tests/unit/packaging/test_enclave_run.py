"""`uid2 enclave run` and scripts/azure/run.sh: unpacking, quotes as the package's enclave, the label."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.packaging.enclave_samples import package_members, sample_library, write_tar

from uid2.attestation.quote import parse_quote
from uid2.packaging.identity import identity_of_library
from uid2.packaging.occlum_config import enclave_sizes, encode_occlum_config, occlum_config
from uid2.packaging.package_files import open_package
from uid2.packaging.sandbox import writable_folders
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.simtee.client import SocketQuoteSource
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import QuotingService, simulated_enclave
from uid2.simtee.scenario import SimulatedEnclave

RUN = Path(__file__).parents[3] / "scripts" / "azure" / "run.sh"
PYTHON = os.path.realpath(sys.executable)
needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None or not Path("/usr/bin/python3").exists() or PYTHON.startswith("/tmp"),
    reason="needs bubblewrap and an interpreter outside /tmp",
)
IDENTITY = identity_of_library(sample_library())

ASK = """
import ctypes, fcntl, os
size = ctypes.c_uint32(0)
device = os.open("/dev/sgx", os.O_RDONLY)
fcntl.ioctl(device, 0x80047307, size, True)
data, quote = ctypes.create_string_buffer(64), ctypes.create_string_buffer(size.value)
request = (ctypes.c_uint64 * 3)(ctypes.addressof(data), ctypes.addressof(size), ctypes.addressof(quote))
fcntl.ioctl(device, 0xC0187308, request, True)
print(quote.raw.hex())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package folder whose root file system is this machine's."""
    settings: dict[str, Any] = occlum_config(enclave_sizes(1000, 1000, {}))
    settings["entry_points"] = [PYTHON]
    home = tmp_path / "uid2-operator"
    (home / "build" / "lib").mkdir(parents=True)
    (home / "build" / "lib" / "libocclum-libos.signed.so").write_bytes(sample_library())
    (home / "Occlum.json").write_bytes(encode_occlum_config(settings))
    (home / "image").symlink_to("/")
    return home


def enclave_run(package: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "uid2.cli.main", "enclave", "run", "--package", str(package), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=package.parent)


@needs_sandbox
def test_the_quote_names_the_packages_enclave_and_the_label_is_there(folder: Path) -> None:
    result = enclave_run(folder, "occlum", "run", PYTHON, "-I", "-c", ASK)
    assert result.returncode == 0, result.stderr
    report = parse_quote(bytes.fromhex(result.stdout.strip())).report
    assert report.mr_enclave.hex() == IDENTITY.mr_enclave
    assert report.mr_signer.hex() == IDENTITY.mr_signer
    assert (report.isv_prod_id, report.isv_svn) == (770, 2)
    assert "SIMULATED" in result.stderr


@needs_sandbox
def test_calls_are_printed_with_the_fallback_of_each_refused_one(folder: Path) -> None:
    source = "import resource\ntry: resource.getrusage(0)\nexcept OSError: pass"
    result = enclave_run(folder, "--calls", PYTHON, "-I", "-c", source)
    assert result.returncode == 0, result.stderr
    assert "calls used: " in result.stderr
    assert "mmap" in result.stderr
    assert "  getrusage 1: " in result.stderr
    assert "NO KNOWN FALLBACK" not in result.stderr


@needs_sandbox
def test_the_exit_status_and_refusals_reach_the_caller(folder: Path) -> None:
    assert enclave_run(folder, PYTHON, "-I", "-c", "raise SystemExit(5)").returncode == 5
    refused = enclave_run(folder, "occlum", "run", "/bin/sh")
    assert refused.returncode == 2
    assert "no entry point" in refused.stderr


def test_a_stack_quotes_any_simulated_enclave_and_no_real_one(tmp_path: Path) -> None:
    platform = SimulatedPlatform.create(1_760_000_000)  # type: ignore[arg-type]  # epoch seconds
    service = QuotingService(tmp_path / "q", platform, SimulatedEnclave(bytes(8) + b"x" * 24))
    service.start()
    try:
        quote = SocketQuoteSource(str(tmp_path / "q"), IDENTITY.record()).quote(bytes(64))
        assert parse_quote(quote).report.mr_enclave.hex() == IDENTITY.mr_enclave
        line = json.dumps({"report_data": "A" * 86 + "==", "enclave": IDENTITY.record() | {"mr_enclave": "11" * 32}})
        assert "error" in service.answer(line.encode())
    finally:
        service.stop()


@pytest.mark.parametrize("change", [{"mr_enclave": "00"}, {"mr_signer": "zz"}, {"svn": 1 << 16}, {"product_id": "1"}])
def test_a_record_that_is_none_is_not_quoted(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        simulated_enclave(IDENTITY.record() | change)


def test_a_package_is_unpacked_once_and_whole(tmp_path: Path) -> None:
    package = write_tar(tmp_path / "uid2-operator.tar.gz", package_members())
    opened = open_package(package)
    assert (opened.root / "app" / "conf" / "config.json").read_bytes() == b"{}"
    assert opened.identity == IDENTITY
    assert open_package(package).root == opened.root
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {".unpacked", "uid2"}


def test_a_broken_package_leaves_nothing(tmp_path: Path) -> None:
    package = write_tar(tmp_path / "p.tar.gz", package_members())
    package.write_bytes(package.read_bytes()[:-20])
    with pytest.raises(EnclaveFileError, match="short"):
        open_package(package)
    through = tmp_path / "link.tar.gz"
    with tarfile.open(write_tar(tmp_path / "whole.tar", package_members(), compressed=False), "a") as archive:
        link = tarfile.TarInfo("uid2-operator/image/out")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("uid2-operator/image/out/evil"))
    (tmp_path / "whole.tar").rename(through)
    with pytest.raises(EnclaveFileError, match="symbolic link"):
        open_package(through)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not Path("/tmp/evil").exists()


def test_a_real_package_is_left_to_occlum(tmp_path: Path) -> None:
    members = {name: data for name, data in package_members().items() if "/image/" not in name}
    with pytest.raises(EnclaveFileError, match="only Occlum reads"):
        open_package(write_tar(tmp_path / "p.tar.gz", members))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"optout_data_dir": "/opt/uid2/optout/"}', ("/tmp", "/opt/uid2/optout/")),
        ('{"optout_data_dir": "/a/../../b"}', ("/tmp",)),
        ('{"optout_data_dir": 1}', ("/tmp",)),
        ("[]", ("/tmp",)),
        ("{", ("/tmp",)),
    ],
)
def test_local_data_lies_in_memory(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    (tmp_path / "app" / "conf").mkdir(parents=True)
    (tmp_path / "app" / "conf" / "config.json").write_text(text)
    assert writable_folders(tmp_path) == expected


def outer(tmp_path: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """run.sh beside a package and a `uid2` that only shows how it is called."""
    azure = tmp_path / "scripts" / "azure"
    (azure / "build" / "uid2-operator").mkdir(parents=True)
    (azure / "build" / "uid2-operator" / "uid2-operator.tar.gz").write_bytes(b"")
    shutil.copy(RUN, azure / "run.sh")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uid2").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nenv | grep _api_token || true\n')
    (tmp_path / "bin" / "uid2").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **variables}
    return subprocess.run([azure / "run.sh", *words], env=environment, capture_output=True, text=True, check=False)


def test_the_script_runs_the_sandbox_where_there_is_no_sgx(tmp_path: Path) -> None:
    result = outer(tmp_path, "occlum", "run", "/bin/sgx_quote", core_api_token="t")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["enclave", "run", "--package"]
    assert lines[-4:] == ["occlum", "run", "/bin/sgx_quote", "core_api_token=t"]


def test_the_script_starts_the_operator_by_default(tmp_path: Path) -> None:
    assert outer(tmp_path).stdout.splitlines()[-3:] == ["occlum", "run", "/bin/launcher"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("start",), {}),
        ((), {"core_api_token": "x" * 513}),
        ((), {"optout_api_token": "tökén"}),
        (("--privileged",), {}),
    ],
)
def test_the_script_refuses_bad_input(tmp_path: Path, words: tuple[str, ...], variables: dict[str, str]) -> None:
    result = outer(tmp_path, *words, **variables)
    assert result.returncode == 2
    assert "next step" in result.stderr
