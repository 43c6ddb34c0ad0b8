"""A whole operator behind Core: loads, outages, stops and exit codes, with a clock that the test moves."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_core import FakeCore

from uid2.corelink import link
from uid2.corelink.client import CoreClient
from uid2.corelink.endpoints import check_attest_url, core_addresses
from uid2.corelink.exchange import AttestationRefusedError
from uid2.operator.attest_platform import quote_source_for
from uid2.operator.main import OperatorProgram, serve
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator, StoppedByRule
from uid2.operator.settings import OperatorSettings, settings_of
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import Clock, FixedClock, SystemEntropy
from uid2.service.messages import json_response

NOW = EpochMillis(1_750_000_000_000)
KEY = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls that nobody answers end soon; logs go back to where they went."""

    def client(clock: Clock, transport: None) -> CoreClient:
        return CoreClient(clock, httpx.Timeout(1.0, connect=0.3))

    monkeypatch.setattr(link, "CoreClient", client)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def core() -> Iterator[FakeCore]:
    core = FakeCore(FixedClock(NOW))
    core.start()
    yield core
    core.close()


def configured(core: FakeCore, **members: Any) -> OperatorSettings:
    return settings_of(
        {
            "core_attest_url": core.attest_url,
            "core_api_token": KEY,
            "enable_remote_config": True,
            "client_side_token_generate": True,
            "validate_service_links": True,
            "encrypted_files": True,
        }
        | members
    )


def running(core: FakeCore, **members: Any) -> RunningOperator:
    settings = configured(core, **members)
    return RunningOperator(settings, core.clock, SystemEntropy(), OperatorMetrics(core.clock), version="5.70.250")


async def refresh_all(operator: RunningOperator) -> set[bool]:
    return {await operator.stores.refresh(name) for name in operator.stores.statuses}


@pytest.mark.parametrize("encrypted", [True, False])
def test_every_store_loads_through_core(core: FakeCore, encrypted: bool) -> None:
    operator = running(core, encrypted_files=encrypted)
    operator.load()
    sizes = {name: status.entries for name, status in operator.stores.statuses.items()}
    keys = {"cloud_encryption_keys": 2} if encrypted else {}
    assert sizes == keys | {
        "sites": 8,
        "client_side_keypairs": 1,
        "services": 1,
        "service_links": 2,
        "clients": 8,
        "keyset_keys": 20,
        "keysets": 10,
        "salts": 4,
        "runtime_config": 1,
    }
    asked = [call for call in core.calls if call.path.endswith("/refresh")]
    assert {call.header("encrypted") for call in asked} == {"true" if encrypted else None}
    # What lies behind a signed address is fetched without any credential.
    content = [call for call in core.calls if call.path.startswith("/content/")]
    named = ("authorization", "attestation-token", "attestation-jwt", "uid-instance-id")
    assert {call.header(name) for call in content for name in named} == {None}
    operator.close()


def test_content_is_fetched_only_when_the_version_grows(core: FakeCore) -> None:
    operator = running(core)
    operator.load()
    core.calls.clear()
    assert asyncio.run(refresh_all(operator)) == {True}
    assert [call.path for call in core.calls if call.path.startswith("/content/")] == []
    operator.close()


def test_it_serves_through_an_hour_without_core_and_stops_at_twelve(
    core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    operator = running(core, store_refresh_stale_shutdown_hours=1000)
    operator.load()
    assert operator.core is not None
    attestation = operator.core.attestation
    core.stop()

    async def outage(minutes: int) -> None:
        for _ in range(minutes // 30):
            assert await refresh_all(operator) == {False}
            if attestation.due():
                attestation.renew()
            core.clock.advance(30 * MINUTE)
            operator.check()

    asyncio.run(outage(60))
    assert operator.context.snapshot.clients.find("UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo=")
    assert attestation.status()["stops_in_seconds"] == 11 * 3600
    core.start()
    assert asyncio.run(refresh_all(operator)) == {True}
    assert attestation.status()["stops_in_seconds"] is None
    core.stop()
    asyncio.run(outage(11 * 60))
    assert "this operator stops in" in caplog.text
    status = attestation.status()
    assert (status["attested"], status["stops_in_seconds"], status["stops_because"]) == (False, 3600, "reaching Core")
    with pytest.raises(StoppedByRule, match="reaching Core has failed for 12 hours"):
        asyncio.run(outage(60))
    operator.close()


def test_stores_that_nothing_refreshes_stop_the_operator_too(core: FakeCore) -> None:
    operator = running(core)
    operator.load()
    core.clock.advance(12 * HOUR)
    operator.check()
    core.clock.advance(1)
    with pytest.raises(StoppedByRule, match="not refreshed for more than 12 hours"):
        operator.check()
    operator.close()


def test_a_401_on_a_store_refresh_attests_again(core: FakeCore) -> None:
    operator = running(core)
    operator.load()
    core.clock.advance(2 * MINUTE)
    core.forget_tokens()
    assert asyncio.run(refresh_all(operator)) == {True}
    assert len(core.attestations) == 2
    operator.close()


def test_a_refusal_ends_the_running_operator(core: FakeCore) -> None:
    operator = running(core)
    operator.load()
    core.clock.advance(2 * MINUTE)
    core.forget_tokens()
    core.replies["/attest"] = lambda _: json_response(401, {"status": "unauthorized", "reason": "key_disabled"})

    async def run() -> None:
        await refresh_all(operator)
        await asyncio.wait_for(operator.run(), 10)

    with pytest.raises(AttestationRefusedError, match="key_disabled"):
        asyncio.run(run())
    operator.close()


def test_stores_that_do_not_load_at_first_are_tried_until_they_do(
    core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([json_response(500, {}), json_response(200, {"keysets": {}}), json_response(503, {})])
    core.replies["/key/keyset/refresh"] = lambda _: next(failing, None)
    operator = running(core)
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        core.clock.advance(int(seconds * 1000))
        return False

    monkeypatch.setattr(operator._closing, "wait", pause)
    operator.load()
    assert (operator.ready, len(waits)) == (True, 3)
    assert len(core.attestations) == 1
    operator.close()


def test_a_first_load_that_is_given_up_leaves_no_data(core: FakeCore) -> None:
    core.replies["/salt/refresh"] = lambda _: json_response(500, {})
    operator = running(core)
    thread = threading.Thread(target=operator.load)
    thread.start()
    operator.abandon()
    thread.join(10)
    assert (thread.is_alive(), operator.ready) == (False, False)
    operator.close()


def test_without_core_the_first_attestation_is_tried_four_times(
    core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.stop()
    operator = running(core)
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        core.clock.advance(int(seconds * 1000) + 1)
        return False

    monkeypatch.setattr(operator._closing, "wait", pause)
    with pytest.raises(DependencyError, match="Core could not be reached"):
        operator.load()
    assert len(waits) == 3
    assert all(least <= wait <= 2 * least for least, wait in zip((0.5, 1, 2), waits, strict=True))
    operator.close()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(401, 3, "check core_api_token"), (403, 3, "protocol trusted"), (None, 4, "core_attest")],
)
def test_exit_codes_of_a_start(
    core: FakeCore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    code: int,
    words: str,
) -> None:
    if status is None:
        core.stop()
        monkeypatch.setattr("uid2.operator.core_link.FIRST_ATTEMPTS", 1)
    else:
        core.replies["/attest"] = lambda _: json_response(status, {"status": "no"})
    file = tmp_path / "operator.json"
    members = {"core_attest_url": core.attest_url, "core_api_token": KEY, "enable_remote_config": True}
    file.write_text(json.dumps(members | {"http_host": "127.0.0.1", "http_loop": "asyncio"}))
    assert serve(file, {"port_offset": "23100"}) == code
    last = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert (last["exit_code"], words in last["next_step"]) == (code, True)


def test_status_shows_the_attestation(core: FakeCore) -> None:
    program = OperatorProgram(configured(core), "5.70.250", core.clock)
    assert program.status()["attested"] is False
    program._operator.load()
    shown = program.status()
    assert shown["attested"] is True
    assert shown["attestation"]["platform"] == "trusted"
    assert shown["attestation"]["expires_at"] == "2025-06-15T17:06:40.000Z"
    program._operator.close()


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        ("core.example/attest", None, "must be an address"),
        ("ftp://core.example/attest", None, "must be an address"),
        ("https://", None, "must be an address"),
        ("https://core.example:x/attest", None, "must be an address"),
        ("https://user:pw@core.example/attest", None, "must be an address"),
        ("http://core.example/attest", "prod", "must be https"),
        ("http://core.example/attest", "integ", "must be https"),
    ],
)
def test_an_unusable_attest_url_is_refused(url: str, environment: str | None, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_attest_url(url, environment)
    assert "pw" not in caught.value.diagnosis()


def test_the_addresses_of_the_stores() -> None:
    paths = {
        "salts": "salts/metadata.json",
        "sites": "/other/refresh",
        "clients": "https://Core.example/clients/refresh",
        "runtime_config": "runtime_config/metadata.json",
    }
    assert core_addresses("https://core.example/attest", paths) == {
        "salts": "https://core.example/salt/refresh",
        "sites": "https://core.example/other/refresh",
        "clients": "https://Core.example/clients/refresh",
        "runtime_config": "https://core.example/operator/config",
    }


@pytest.mark.parametrize("path", ["https://elsewhere.example/sites/refresh", "http://core.example/sites", "sites.json"])
def test_the_operator_key_goes_to_core_alone(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be an address at https://core\.example"):
        core_addresses("https://core.example/attest", {"sites": path})


@pytest.mark.parametrize("platform", ["aws-nitro", "gcp-oidc", "azure-cc", "AZURE-SGX", "x"])
def test_other_platforms_are_refused_in_the_words_of_the_reference(platform: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        quote_source_for(OperatorSettings(enclave_platform=platform))
    assert caught.value.message == f"enclave_platform is providing the wrong value: {platform}"


@pytest.mark.parametrize("platform", [None, ""])
def test_no_platform_means_trusted(platform: str | None) -> None:
    assert quote_source_for(OperatorSettings(enclave_platform=platform)) is None


def test_a_simulated_tee_needs_development_and_a_program_that_simulates() -> None:
    class Simulated:
        kind = "simulated"

        def __init__(self, path: str) -> None:
            self.path = path

        def quote(self, report_data: bytes) -> bytes:
            return report_data

    settings = OperatorSettings(enclave_platform="azure-sgx", dangerous_simulated_tee="/x", environment="development")
    source = quote_source_for(settings, Simulated)
    assert isinstance(source, Simulated)
    assert source.path == "/x"
    for environment in (None, "integ", "prod", "Development"):
        with pytest.raises(ConfigurationError, match="for development only"):
            quote_source_for(replace(settings, environment=environment), Simulated)
    with pytest.raises(ConfigurationError, match="for development only"):
        quote_source_for(settings, None)
    with pytest.raises(ConfigurationError, match="enclave_platform"):
        quote_source_for(replace(settings, enclave_platform=None), Simulated)
