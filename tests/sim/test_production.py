"""What production refuses (enclave chapter, 9.3; design, 11.3 and 11.11): to start, or to attest."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_process import running_core
from sim_stage import ENCLAVE, NOW, OPERATOR, PUBLIC_KEY, Stage, prepare, refused

from running_stack import command
from uid2.attestation.binding import report_data_v1
from uid2.core.main import serve as serve_core
from uid2.operator.main import serve as serve_operator
from uid2.protocol.attest_messages import AttestRequest, encode_attest_request
from uid2.service.exits import ExitCode
from uid2.simtee.certificates import make_root
from uid2.simtee.client import SocketQuoteSource
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.scenario import Scenario

# Protocol `trusted`: of an operator, and of the opt-out service.
TRUSTED = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
OPTOUT = "UID2-O-L-127-pDqphU.6FuXzThQMY8YEsCA8crqvAlzyGrjcF8P6XO84="
PUBLIC_URLS = {"core_public_url": "https://core.example.com", "optout_url": "https://optout.example.com"}
GUARDED: list[dict[str, Any]] = [{"environment": "prod"}, {"environment": "integ"}, {"sealed": True}]
named = pytest.mark.parametrize("guard", GUARDED, ids=["prod", "integ", "sealed"])


def written(folder: Path, members: dict[str, Any]) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(members))
    return file


@named
def test_core_does_not_start_with_a_test_root(
    tmp_path: Path, guard: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.pem").write_text(make_root(NOW).pem)
    members = {
        "environment": "development",
        "core_s3_bucket": f"file://{tmp_path}",
        "att_token_enc_key": "k",
        "att_token_enc_salt": "s",
        "dangerous_attestation_root": str(tmp_path / "root.pem"),
        **PUBLIC_URLS,
    }
    assert serve_core(written(tmp_path, members | guard), {}) == ExitCode.CONFIGURATION
    assert "dangerous_attestation_root" in capsys.readouterr().err


@named
def test_an_operator_does_not_start_on_a_simulated_tee(
    tmp_path: Path, guard: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    members = {
        "environment": "development",
        "core_attest_url": "https://core.example.com/attest",
        "core_api_token": "UID2-O-P-1-key",
        "enclave_platform": "azure-sgx",
        "dangerous_simulated_tee": str(tmp_path / "q"),
    }
    code = serve_operator(written(tmp_path, members | guard), {}, quote_source_of=SocketQuoteSource)
    assert code == ExitCode.CONFIGURATION
    assert "dangerous_simulated_tee" in capsys.readouterr().err


def test_the_command_line_refuses_a_simulated_tee_like_the_service(tmp_path: Path) -> None:
    members = {"environment": "prod", "enclave_platform": "azure-sgx", "dangerous_simulated_tee": "/x"}
    file = written(tmp_path, members)
    ended = subprocess.run(command("operator", "serve", "--config", str(file)), capture_output=True, check=False)
    assert ended.returncode == ExitCode.CONFIGURATION


@pytest.fixture(scope="module", params=["prod", "integ"])
def production(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Core with production settings; its collateral address answers nothing."""
    folder = tmp_path_factory.mktemp("production")
    settings = {"environment": request.param, "attestation_collateral_url": "https://127.0.0.1:1", **PUBLIC_URLS}
    with running_core(folder, prepare=prepare, **settings) as core, httpx.Client(trust_env=False) as http:
        yield Stage(core, make_root(NOW), None, "", http)  # type: ignore[arg-type]


@pytest.mark.parametrize("marked", [True, False])
def test_simulated_evidence_is_refused_for_good(production: Stage, marked: bool) -> None:
    platform = SimulatedPlatform.create(NOW, Scenario(marked=marked))
    quote = platform.quote(report_data_v1(PUBLIC_KEY), ENCLAVE)
    refused(production.attest(quote), "test_root" if marked else "untrusted_root")


def test_a_trusted_key_neither_attests_nor_passes_the_gate(production: Stage) -> None:
    refused(production.attest(b"\0", key=TRUSTED), "trusted_refused")
    answer = production.http.get(
        f"{production.core.url}/clients/refresh", headers={"authorization": f"Bearer {TRUSTED}"}
    )
    assert (answer.status_code, answer.json()["reason"]) == (401, "insufficient_role")


def test_the_opt_out_service_goes_on_with_its_trusted_key(production: Stage) -> None:
    body = encode_attest_request(AttestRequest(b"\0", PUBLIC_KEY, "uid2-optout"))
    headers = {"authorization": f"Bearer {OPTOUT}"}
    assert production.http.post(f"{production.core.url}/attest", content=body, headers=headers).status_code == 200


def test_evidence_in_place_of_a_quote_is_refused(production: Stage) -> None:
    refused(production.attest(b"\0", key=OPERATOR), "bad_quote_format")
