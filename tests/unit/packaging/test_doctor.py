"""Start-up checks: each lack is found with its fix, and a good machine has no finding."""

import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from uid2.cli.main import app
from uid2.packaging.doctor import CoreAnswer, Machine, examine
from uid2.packaging.doctor_machine import ask_core, available_memory, azure_size, cpu_flags
from uid2.packaging.occlum_config import enclave_sizes, occlum_config

GOOD = Machine(
    exists=lambda path: path in {"/dev/sgx_enclave", "/dev/sgx_provision"},
    readable=lambda path: True,
    environment={"core_api_token": "UID2-O-P-1-abc", "optout_api_token": "UID2-O-P-1-abc"},
    cpu_flags=frozenset({"sgx", "sgx_lc"}),
    machine_size="Standard_DC8_v2",
    available_memory=30 << 30,
    ask_core=lambda url: CoreAnswer(skew=1.0),
)
CONFIGURATION = {"core_attest_url": "https://core.example/attest"}
SETTINGS = occlum_config(enclave_sizes(1000, 1000, {}))


def findings(log: str = "", **changes: Any) -> list[str]:
    return [finding.line() for finding in examine(replace(GOOD, **changes), CONFIGURATION, SETTINGS, log)]


def test_a_good_machine_has_no_finding() -> None:
    assert findings() == []
    assert findings(machine_size="") == []
    older = {"/dev/sgx/enclave", "/dev/sgx/provision"}
    assert findings(exists=lambda path: path in older) == []


TOKEN = "UID2-O-P-1-abc"
LACKS: list[tuple[str, dict[str, Any]]] = [
    ("no SGX, or the firmware", {"cpu_flags": frozenset()}),
    ("launch control", {"cpu_flags": frozenset({"sgx"})}),
    ("no SGX enclave device", {"exists": lambda path: path == "/dev/sgx_provision"}),
    ("no SGX provision device", {"exists": lambda path: path == "/dev/sgx_enclave"}),
    ("may not be opened", {"readable": lambda path: path != "/dev/sgx_provision"}),
    ("Standard_DC4_v2", {"machine_size": "Standard_DC4_v2"}),
    ("core_api_token is empty", {"environment": {"optout_api_token": TOKEN}}),
    ("optout_api_token is empty", {"environment": {"core_api_token": TOKEN, "optout_api_token": ""}}),
    ("longer than 512", {"environment": {"core_api_token": "x" * 513, "optout_api_token": TOKEN}}),
    ("other than ASCII", {"environment": {"core_api_token": "tökén", "optout_api_token": TOKEN}}),
    ("line ends", {"environment": {"core_api_token": TOKEN + "\n", "optout_api_token": TOKEN}}),
    ("aesm.socket", {"environment": GOOD.environment | {"SGX_AESM_ADDR": "1"}}),  # type: ignore[operator]  # a dict
    ("MB are free", {"available_memory": 1 << 28}),
    ("ConnectError", {"ask_core": lambda url: CoreAnswer(failure="ConnectError")}),
    ("300 s ahead of", {"ask_core": lambda url: CoreAnswer(skew=300.0)}),
    ("300 s behind", {"ask_core": lambda url: CoreAnswer(skew=-300.0)}),
]


@pytest.mark.parametrize(("problem", "changes"), LACKS, ids=[problem for problem, _ in LACKS])
def test_each_lack_is_found_with_a_fix(problem: str, changes: dict[str, Any]) -> None:
    lines = findings(**changes)
    assert len(lines) == 1, lines
    assert problem in lines[0]
    assert len(lines[0].partition("fix: ")[2]) > 10


def test_no_finding_shows_a_token() -> None:
    lines = findings(environment={"core_api_token": "sécret" * 100, "optout_api_token": "sécret canary"})
    assert len(lines) == 2
    assert "canary" not in "".join(lines)
    assert "sécret" not in "".join(lines)


def test_quoting_errors_of_a_log_are_explained() -> None:
    (line,) = findings(log="[get_platform_quote_cert_data ../qe_logic.cpp:378] Error returned: 0xe019\n0xE019 again")
    assert "0xe019" in line
    assert "az-dcap-client" in line


def test_with_the_quote_helper_no_provision_device_is_needed() -> None:
    there = {"/dev/sgx_enclave", "/var/run/aesmd/aesm.socket"}
    helped = {**GOOD.environment, "SGX_AESM_ADDR": "1"}
    assert findings(exists=lambda path: path in there, environment=helped) == []


def test_what_the_kernel_says_is_read() -> None:
    assert cpu_flags("processor\t: 0\nflags\t\t: fpu sgx sgx_lc\n") == {"fpu", "sgx", "sgx_lc"}
    assert cpu_flags("") == frozenset()
    assert available_memory("MemTotal: 9 kB\nMemAvailable:  1024 kB\n", "max\n") == 1 << 20
    assert available_memory("MemAvailable:  1024 kB\n", "4096\n") == 4096
    assert available_memory("", "") == 0


def test_the_metadata_service_and_core_are_asked() -> None:
    def metadata(request: httpx.Request) -> httpx.Response:
        assert request.headers["metadata"] == "true"
        return httpx.Response(200, text="Standard_DC8_v2\n")

    assert azure_size(httpx.MockTransport(metadata)) == "Standard_DC8_v2"
    assert azure_size(httpx.MockTransport(lambda _: httpx.Response(404, text="<html>"))) == ""

    def core(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://core.example/ops/healthcheck"
        return httpx.Response(401, headers={"date": formatdate(time.time() - 1000, usegmt=True)})

    skew = ask_core("https://core.example/attest", httpx.MockTransport(core)).skew
    assert skew is not None
    assert 900 < skew < 1100

    def down(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert ask_core("https://core.example/attest", httpx.MockTransport(down)).failure == "ConnectError"
    assert azure_size(httpx.MockTransport(down)) == ""
    assert ask_core("https://c", httpx.MockTransport(lambda _: httpx.Response(200, headers={"date": "x"}))).skew is None


def test_the_command_ends_with_1_on_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("uid2.packaging.doctor_machine.this_machine", lambda: replace(GOOD, machine_size="Standard_D2"))
    log = tmp_path / "log"
    log.write_text("0xe03f")
    result = CliRunner().invoke(app, ["doctor", "--log", str(log)])
    assert result.exit_code == 1
    assert "Standard_D2" in result.output
    assert "0xe03f" in result.output
    monkeypatch.setattr("uid2.packaging.doctor_machine.this_machine", lambda: GOOD)
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
