"""Operator keys and partners through Core: both as in production, in this process, with a double of the network."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
sys.path.insert(0, str(Path(__file__).parents[2]))

from core_stage import DISABLED, OPTOUT, PRIVATE, PUBLIC, STORES, Core
from optout_stage import parameters

from running_stack import free_offset
from uid2.corelink.exchange import AttestationRefusedError
from uid2.optout.assembly import optout_context
from uid2.optout.core_link import COMPONENT, CoreStanding, core_link, stay_attested
from uid2.optout.main import OptOutProgram
from uid2.optout.metric_names import OptOutMetrics
from uid2.optout.routes import optout_application
from uid2.optout.settings import ACCEPTED, KEYS, settings_of
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.metadata import parse_version
from uid2.service.clock import SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode, exit_code_of
from uid2.service.health import Health
from uid2.service.messages import Headers, Request

CORE = "https://core.test"
SERVICE = "https://optout.test"
MINUTE = 60_000


class Network(httpx.BaseTransport):
    """Every call to Core, noted; `down`: nobody answers."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.calls: list[httpx.Request] = []
        self.down = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        assert (request.url.scheme, request.url.host) == ("https", "core.test")
        if self.down:
            raise httpx.ConnectError("nobody is there")
        asked = Request(
            request.method,
            request.url.path,
            dict(request.url.params),
            Headers.of(dict(request.headers)),
            request.read(),
            client="192.0.2.7",
            host="core.test",
        )
        answer = asyncio.run(self.core.application.respond(asked))
        return httpx.Response(answer.status, content=answer.body, headers=list(answer.headers))

    def to(self, path: str) -> list[httpx.Request]:
        return [call for call in self.calls if call.url.path == path]


class Pair:
    """Core and the opt-out service in the environment `prod`, on one clock."""

    def __init__(self, folder: Path, key: str = OPTOUT, offset: int = 0, **members: Any) -> None:
        shutil.copytree(STORES, folder / "bucket", ignore=shutil.ignore_patterns("operator-mock"))
        (folder / "files").mkdir()
        real = {"environment": "prod", "core_public_url": CORE, "optout_url": SERVICE, "enforceJwt": True}
        self.core = Core(folder, None, **real)
        self.core.load()
        self.network = Network(self.core)
        given = real | {
            "core_attest_url": f"{CORE}/attest",
            "core_api_token": key,
            "att_token_enc_key": "<key-for-attestation-token>",
            "att_token_enc_salt": "<salt-for-attestation-token>",
            "optout_s3_bucket": f"file://{folder / 'files'}",
            "optout_data_dir": str(folder / "data"),
        }
        file = folder / "optout.json"
        file.write_text(json.dumps(given | members))
        self.settings = settings_of(load_configuration(KEYS, file, {"port_offset": str(offset)}, accepted=ACCEPTED))
        self.clock, entropy, self.health = self.core.clock, SystemEntropy(), Health()
        self.metrics = OptOutMetrics(self.clock)
        self.standing = CoreStanding(self.clock, self.metrics, self.health)
        self.link = core_link(self.settings, "9.9", self.clock, entropy, self.standing, self.network)
        self.context = optout_context(self.settings, self.clock, entropy, self.metrics, self.health, self.link)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(optout_application(self.context, self.health)), base_url=SERVICE
        )

    async def replicate(self, key: str) -> int:
        worker = asyncio.create_task(self.context.queue.run())
        headers = {"Authorization": f"Bearer {key}"}
        answer = await self.http.post("/optout/replicate", params=parameters(1), headers=headers)
        worker.cancel()
        return answer.status_code

    def change_operators(self, key: str, **members: Any) -> None:
        """A new version of the operators in Core's bucket."""
        file = self.core.bucket / "operators/operators.json"
        records = json.loads(file.read_bytes())
        for record in records:
            if record["key"] == key:
                record.update(members)
        file.write_text(json.dumps(records))
        metadata = self.core.bucket / "operators/metadata.json"
        document = json.loads(metadata.read_bytes())
        metadata.write_text(json.dumps(document | {"version": parse_version(metadata.read_bytes()) + 1}))

    def gauge(self, name: str, **labels: str) -> float:
        (family,) = (each for each in self.metrics.state() if each["name"] == name)
        wanted = [labels[label] for label in family["labels"]]
        (value,) = (values[0] for key, values in family["series"] if list(key) == wanted)
        return float(value)


def test_the_keys_come_with_the_token_and_the_jwt_from_a_signed_address(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    async def run() -> tuple[int, int]:
        await pair.context.keys.load()
        return await pair.replicate(PUBLIC), await pair.replicate("UID2-O-L-999-unknown.key")

    assert asyncio.run(run()) == (200, 401)
    attest, refresh, content = pair.network.calls
    body = json.loads(attest.content)
    assert (attest.url.path, body["attestation_request"]) == ("/attest", "AA==")
    assert (body["application_name"], body["operator_type"]) == ("uid2-optout", "public")
    assert refresh.url.path == "/operators/refresh"
    for call in (attest, refresh):
        assert call.headers["authorization"] == f"Bearer {OPTOUT}"
        assert call.headers["uid-instance-id"].startswith("local-optout-")
        assert call.headers["x-uid2-appversion"].startswith("uid2-optout=9.9;")
    held = pair.link.attestation.credentials()
    assert refresh.headers["attestation-token"] == held.token
    assert refresh.headers["attestation-jwt"] == held.jwt_core
    # The file itself is behind a signature, and is asked for without any credential.
    assert content.url.path == "/files/operators/operators.json"
    assert {"expires", "signature"} == set(content.url.params)
    for name in ("authorization", "attestation-token", "attestation-jwt", "uid-instance-id"):
        assert name not in content.headers
    assert pair.network.handle_request(httpx.Request("GET", content.url.copy_with(query=None))).status_code == 403


def test_core_demands_the_jwt(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    held = pair.link.attestation.credentials()
    headers = pair.link.attestation.headers(held)
    url = f"{CORE}/operators/refresh"
    assert pair.network.handle_request(httpx.Request("GET", url, headers=headers)).status_code == 200
    headers.pop("Attestation-JWT")
    assert pair.network.handle_request(httpx.Request("GET", url, headers=headers)).status_code == 401


def test_a_key_that_core_disables_is_refused_with_the_next_poll(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    async def run() -> list[int]:
        await pair.context.keys.load()
        answers = [await pair.replicate(PUBLIC)]
        pair.change_operators(PUBLIC, disabled=True)
        answers.append(await pair.replicate(PUBLIC))
        await pair.context.keys.load()
        return [*answers, await pair.replicate(PUBLIC)]

    assert asyncio.run(run()) == [200, 200, 401]
    assert len(pair.network.to("/attest")) == 1


@pytest.mark.parametrize("place", ["/partners/refresh", f"{CORE}/partners/refresh", "partners/metadata.json"])
def test_partners_come_from_core_too(tmp_path: Path, place: str) -> None:
    pair = Pair(tmp_path, partners_metadata_path=place)
    assert pair.context.partners is not None
    asyncio.run(pair.context.partners.load())
    assert [partner.url for partner in pair.context.partners.partners] == ["http://proxy:8091/api/optout"]
    (asked,) = pair.network.to("/partners/refresh")
    assert "attestation-jwt" in asked.headers


def test_without_a_place_of_partners_none_are_asked_for(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert pair.context.partners is None
    assert "partners" not in pair.link.addresses


@pytest.mark.parametrize("place", ["https://elsewhere.test/operators/refresh", "http://core.test/operators/refresh"])
def test_the_key_goes_to_core_alone(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"operators_metadata_path must be an address at https://core\.test"):
        Pair(tmp_path, operators_metadata_path=place)


def test_an_outage_of_core_forgets_no_key_and_is_seen(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    async def run() -> list[int]:
        await pair.context.keys.load()
        loaded_at = pair.clock.now_ms() // 1000
        pair.network.down = True
        pair.clock.advance(5 * MINUTE)
        await pair.context.keys.load()
        pair.clock.advance(200 * MINUTE)
        await pair.context.keys.load()
        assert not pair.link.attestation.attested
        pair.standing.sample(pair.link.attestation)
        assert pair.gauge("uid2_optout_attested") == 0
        assert pair.gauge("uid2_optout_core_failing_seconds") == 200 * 60
        assert pair.gauge("uid2_config_store_consecutive_refresh_failures", store="operators") == 1
        assert pair.gauge("uid2_optout_store_refreshed", store="operators") == loaded_at
        problem = pair.context.keys.status.problem
        assert problem is not None
        assert "Core could not be reached" in problem
        assert pair.link.attestation.status()["failing_for_seconds"] == 200 * 60
        answers = [await pair.replicate(PUBLIC)]
        pair.network.down = False
        pair.clock.advance(MINUTE)
        await pair.context.keys.load()
        return [*answers, await pair.replicate(PUBLIC)]

    assert asyncio.run(run()) == [200, 200]
    assert pair.context.keys.status.problem is None
    assert pair.link.attestation.status()["failing_for_seconds"] is None
    assert pair.gauge("uid2_config_store_consecutive_refresh_failures", store="operators") == 0


def test_until_core_has_answered_health_says_why(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.network.down = True
    component = pair.health.component(COMPONENT)
    assert (component.healthy, component.reason) == (False, "still starting")
    assert not pair.link.attestation.renew()
    assert b"core-attestation: Core could not be reached: ConnectError" in pair.health.response().body
    assert asyncio.run(pair.http.get("/ops/healthcheck")).status_code == 503
    pair.network.down = False
    pair.clock.advance(MINUTE)
    assert pair.link.attestation.renew()
    assert component.healthy
    # What is loaded serves on, so a later outage is no reason to take the service out of its load balancer.
    pair.network.down = True
    pair.clock.advance(200 * MINUTE)
    assert not pair.link.attestation.renew()
    assert component.healthy


def test_it_stays_attested_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(tmp_path)
    monkeypatch.setattr("uid2.optout.core_link.TICK_SECONDS", 0.01)

    async def run() -> None:
        first = asyncio.Event()
        keeping = asyncio.create_task(stay_attested(pair.link.attestation, first))
        async with asyncio.timeout(30):
            await first.wait()
            attested_once = pair.link.attestation.credentials()
            pair.clock.advance(20 * MINUTE)
            while pair.link.attestation.credentials() is attested_once:
                await asyncio.sleep(0.01)
            # The key is taken away: nothing is asked any more, the program ends.
            pair.change_operators(OPTOUT, disabled=True)
            await pair.core.context.own.load()
            pair.clock.advance(20 * MINUTE)
            await keeping

    with pytest.raises(AttestationRefusedError, match="key_disabled"):
        asyncio.run(run())
    assert pair.gauge("uid2_optout_attestations_total", result="accepted") == 2
    assert pair.gauge("uid2_optout_attestations_total", result="refused") == 1
    assert b"core-attestation: Core refused" in pair.health.response().body


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("UID2-O-L-999-unknown.key", "unrecognized_key"),
        # An operator's trusted key has no place in production, and a private one is of another type.
        (PUBLIC, "protocol is not valid"),
        (PRIVATE, "protocol is not valid"),
    ],
)
def test_a_key_that_is_not_the_service_s_is_refused(tmp_path: Path, key: str, words: str) -> None:
    pair = Pair(tmp_path, key)
    with pytest.raises(AttestationRefusedError, match=words) as refusal:
        pair.link.attestation.credentials()
    assert "operator key" in refusal.value.next_step
    assert key not in refusal.value.diagnosis()


def test_a_key_without_the_role_is_told_so(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    asyncio.run(pair.context.keys.load())
    pair.change_operators(OPTOUT, roles=["OPERATOR"])
    asyncio.run(pair.core.context.own.load())
    asyncio.run(pair.context.keys.load())
    problem = pair.context.keys.status.problem
    assert problem is not None
    assert "401 from core.test/operators/refresh" in problem
    assert pair.context.keys.index is not None


def test_a_folder_that_is_not_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Pair(tmp_path, storage_mock_root=str(tmp_path))
    assert "storage_mock_root is not read" in caplog.text


@pytest.mark.parametrize("when", ["at start", "later"])
def test_the_program_ends_when_core_refuses_it(tmp_path: Path, when: str) -> None:
    pair = Pair(tmp_path, DISABLED if when == "at start" else OPTOUT, free_offset(), http_host="127.0.0.1")
    program = OptOutProgram(pair.settings, "9.9", pair.clock, core_transport=pair.network)

    async def run() -> None:
        running = asyncio.create_task(program.run())
        async with asyncio.timeout(60):
            if when == "later":
                while not program.ready and not running.done():
                    await asyncio.sleep(0.01)
                pair.change_operators(OPTOUT, disabled=True)
                await pair.core.context.own.load()
                pair.clock.advance(20 * MINUTE)
            await running

    with pytest.raises(AttestationRefusedError, match="key_disabled") as refusal:
        asyncio.run(run())
    assert program.started is (when == "later")
    assert exit_code_of(refusal.value, started=program.started) == ExitCode.ATTESTATION_REFUSED
    status = asyncio.run(program.status())
    assert (status["attestation"]["attested"], "key_disabled" in status["attestation"]["problem"]) == (
        when == "later",
        True,
    )


def test_a_drain_ends_the_program_before_core_has_answered(tmp_path: Path) -> None:
    pair = Pair(tmp_path, offset=free_offset(), http_host="127.0.0.1")
    pair.network.down = True
    program = OptOutProgram(pair.settings, "9.9", pair.clock, core_transport=pair.network)

    async def run() -> int:
        running = asyncio.create_task(program.run())
        async with asyncio.timeout(60):
            while not pair.network.calls:
                await asyncio.sleep(0.01)
            ops = f"http://127.0.0.1:{pair.settings.ops_port}"
            async with httpx.AsyncClient(base_url=ops, trust_env=False) as http:
                assert (await http.get("/ops/ready")).status_code == 503
                assert (await http.post("/ops/drain")).status_code == 202
            return await running

    assert asyncio.run(run()) == ExitCode.NORMAL
    assert not program.started
