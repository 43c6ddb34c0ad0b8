"""A real operator process before Core: let in, or ended with the documented exit code and the reason."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sim_stage import ENCLAVE, MR_ENCLAVE, OPERATOR, Stage, verdict_lines

from running_stack import command, free_offset
from uid2.attestation.quote import DEBUG
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import QuotingService
from uid2.simtee.scenario import Scenario, SimulatedEnclave

READY_SECONDS = 60


@dataclass(frozen=True)
class Started:
    process: subprocess.Popen[bytes]
    ops_url: str
    log: Path

    def last_line(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        return line

    def status(self) -> dict[str, Any]:
        members: dict[str, Any] = httpx.get(f"{self.ops_url}/ops/status", trust_env=False).json()
        return members


@contextlib.contextmanager
def started(
    stage: Stage, folder: Path, platform: SimulatedPlatform, enclave: SimulatedEnclave = ENCLAVE, **members: Any
) -> Iterator[Started]:
    """`uid2 operator serve` whose quotes come from that platform; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="sim-") as short:
        quoting = QuotingService(Path(short) / "q", platform, enclave)
        quoting.start()
        config = {
            "environment": "development",
            "core_attest_url": f"{stage.core.url}/attest",
            "core_api_token": OPERATOR,
            "enclave_platform": "azure-sgx",
            "dangerous_simulated_tee": str(Path(short) / "q"),
            "enable_remote_config": True,
            "http_host": "127.0.0.1",
        } | members
        file, log = folder / "operator.json", folder / "operator.log"
        file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
        offset = free_offset()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command("operator", "serve", "--config", str(file)),
                stderr=output,
                env={**os.environ, "port_offset": str(offset)},
            )
        try:
            yield Started(process, f"http://127.0.0.1:{9080 + offset}", log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(20)
            quoting.stop()


def wait_until_ready(operator: Started) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        assert operator.process.poll() is None, operator.log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{operator.ops_url}/ops/ready", trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(operator.log.read_text())


def test_an_attested_operator_serves(stage: Stage, tmp_path: Path) -> None:
    with started(stage, tmp_path, stage.platform()) as operator:
        wait_until_ready(operator)
        attestation = operator.status()["attestation"]
    assert (attestation["attested"], attestation["report_data_version"]) == (True, 2)
    assert attestation["platform"] == "simulated"
    assert f"mr_enclave={MR_ENCLAVE.hex()}" in verdict_lines(stage.core, "attestation accepted")[-1]["message"]
    assert OPERATOR not in operator.log.read_text()


REFUSALS: dict[str, tuple[Scenario, SimulatedEnclave, str]] = {
    "debug": (Scenario(), replace(ENCLAVE, flags=ENCLAVE.flags | DEBUG), "debug_enclave"),
    "another build": (Scenario(), replace(ENCLAVE, mr_enclave=bytes(8) + b"\x01" * 24), "unknown_mrenclave"),
    "a revoked platform": (Scenario(revoked=frozenset({"pck"})), ENCLAVE, "revoked"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_operator_ends_at_once_and_says_why(stage: Stage, tmp_path: Path, name: str) -> None:
    scenario, enclave, reason = REFUSALS[name]
    with started(stage, tmp_path, stage.platform(scenario), enclave) as operator:
        assert operator.process.wait(READY_SECONDS) == 3
    last = operator.last_line()
    assert reason in last["message"]
    assert last["exit_code"] == 3
    assert last["next_step"]
    assert "serves on port" not in operator.log.read_text()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"core_api_token": "UID2-O-L-999-nobody.000000"}, "unrecognized_key"),
        ({"operator_type": "private"}, "wrong_operator_type"),
    ],
    ids=["unknown key", "other type"],
)
def test_an_operator_whose_key_does_not_fit_ends_at_once(
    stage: Stage, tmp_path: Path, members: dict[str, Any], words: str
) -> None:
    with started(stage, tmp_path, stage.platform(), **members) as operator:
        assert operator.process.wait(READY_SECONDS) == 3
    assert words in operator.last_line()["message"]


@pytest.mark.slow
def test_collateral_that_has_ended_is_waited_for_and_then_a_failed_dependency(stage: Stage, tmp_path: Path) -> None:
    ended = Scenario(collateral_begins=-7200, collateral_ends=-3600)
    with started(stage, tmp_path, stage.platform(ended)) as operator:
        assert operator.process.wait(READY_SECONDS) == 4
    assert "collateral_expired" in operator.last_line()["message"]
    assert len(verdict_lines(stage.core, "attestation refused", "collateral_expired")) >= 4
