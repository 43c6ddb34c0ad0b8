"""The built package by itself: its quote, the filter around it, and a production enclave that never serves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uid2.packaging.package_files import open_package
from uid2.packaging.sandbox import SandboxedProgram, run_sandboxed
from uid2.packaging.seccomp_filter import known_refusals
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import simulated_enclave

from .conftest import BUILD, PACKAGE, ROOT

PYTHON = "/opt/python/bin/python3"
REFUSED = """
import ctypes, os, resource
for name, call in (("fork", os.fork), ("memfd_create", lambda: os.memfd_create("x")),
                   ("getrusage", lambda: resource.getrusage(resource.RUSAGE_SELF))):
    try:
        call()
    except OSError as error:
        print(name, error.errno)
    else:
        os._exit(9)
print(sorted(name for name in os.environ if name.endswith("token")), os.access("/app", os.W_OK))
"""


def test_the_filter_is_on(tmp_path: Path) -> None:
    opened = open_package(PACKAGE)
    platform = SimulatedPlatform.create(int(time.time()))  # type: ignore[arg-type]
    enclave = simulated_enclave(opened.identity.record())
    settings = {**opened.settings, "entry_points": [PYTHON]}
    done = _captured(
        SandboxedProgram(
            opened.root, settings, (PYTHON, "-I", "-c", REFUSED), {"core_api_token": "t", "LD_PRELOAD": "x"}, trace=True
        ),
        lambda data: platform.quote(data, enclave),
        tmp_path,
    )
    assert done == "fork 38\nmemfd_create 38\ngetrusage 38\n['core_api_token'] False\n"


def _captured(program: SandboxedProgram, quote_of: object, folder: Path) -> str:
    """What the program printed; its refused calls have known fallbacks, or are the three that it asked for."""
    out = folder / "out"
    saved = os.dup(1)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT)
    try:
        os.dup2(descriptor, 1)
        report = run_sandboxed(program, quote_of)  # type: ignore[arg-type]
    finally:
        os.dup2(saved, 1)
        os.close(descriptor)
        os.close(saved)
    assert report.exit_code == 0
    assert set(report.refused) <= set(known_refusals())
    return out.read_text()


def test_sgx_quote_prints_its_five_lines_and_the_label() -> None:
    script = ROOT / "scripts/azure/run.sh"
    done = subprocess.run([script, "occlum", "run", "/bin/sgx_quote"], capture_output=True, text=True, check=True)
    record = json.loads((BUILD / "identity.json").read_bytes())
    rows = done.stdout.splitlines()
    assert rows[0] == f"MRENCLAVE   = {record['mr_enclave'].upper()}"
    assert rows[1] == f"MRSIGNER    = {record['mr_signer'].upper()}"
    assert rows[2:4] == ["PRODUCT ID  = 770", "SEC VERSION = 2"]
    assert rows[4].startswith("QUOTE SIZE  = ")
    assert "SIMULATED" in rows[5]
    wrong = subprocess.run([script, "occlum", "run", "/bin/sh"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "no entry point" in wrong.stderr


@pytest.mark.parametrize("name", ["core_attest_url", "dangerous_simulated_tee", "port_offset"])
def test_the_host_cannot_redirect_the_operator(name: str) -> None:
    """Only the two tokens reach the inside, whatever else the host sets."""
    opened = open_package(PACKAGE)
    assert opened.settings["env"]["untrusted"] == ["core_api_token", "optout_api_token"]
    assert name not in opened.settings["env"]["untrusted"]


def test_a_production_enclave_never_serves_here(tmp_path: Path) -> None:
    """Sealed to its own Core, whose certificate nobody here can show."""
    built = subprocess.run(
        [sys.executable, "-m", "uid2.cli.main", "enclave", "build", "prod", "--fast", "--out", str(tmp_path / "build")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert built.returncode == 0, built.stderr
    command = [sys.executable, "-m", "uid2.cli.main", "enclave", "run", "--package"]
    command += [str(tmp_path / "build/uid2-operator/uid2-operator.tar.gz"), "--state", str(tmp_path)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "core_api_token": "UID2-O-P-1-x.y", "optout_api_token": "x"},
            capture_output=True,
            text=True,
            check=False,
            timeout=12,
        )
        log = done.stderr + done.stdout
        assert done.returncode != 0
    except subprocess.TimeoutExpired as running:
        log = (running.stderr or b"").decode() + (running.stdout or b"").decode()
    assert "serves on port" not in log
    assert "Core" in log
