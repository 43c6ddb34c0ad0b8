"""The operator's side of Core against Core itself, over sockets; the clock is the test's."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uid2.core.assembly import core_context
from uid2.core.metric_names import CoreMetrics
from uid2.core.routes import core_application
from uid2.core.settings import ACCEPTED, KEYS
from uid2.core.settings import settings_of as core_settings_of
from uid2.corelink.exchange import AttestationRefusedError
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.health import Health
from uid2.service.server import HttpServer, bind_socket

NOW = EpochMillis(1_750_000_000_000)
STORES = Path(__file__).parents[1] / "vectors" / "stores"
PUBLIC = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
PRIVATE = "OPLCLAjLRWcVlCDl9+BbwR38gzxYdiWFa751ynWLuI7JU4iA="
DISABLED = "UID2-O-L-998-d1sabledKeyForE2ETestOnly00000000000000000000="
NITRO = "UID2-O-L-124-aws-operator-key"
MINUTE = 60_000


class CoreOnSockets:
    """Core's application in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock(NOW)
        self.bucket = folder / "bucket"
        shutil.copytree(STORES, self.bucket)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listener = bind_socket("127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        file = folder / "core.json"
        file.write_text(
            json.dumps(
                {
                    "core_s3_bucket": f"file://{self.bucket}",
                    "att_token_enc_key": "key",
                    "att_token_enc_salt": "salt",
                    "core_public_url": self.origin,
                    "optout_url": "http://optout:8081",
                    "provide_private_site_data": True,
                    "enforceJwt": True,
                    "jwt_signing_key_file": str(STORES / "jwt/jwt_signing_private_key.pem"),
                }
            )
        )
        settings = core_settings_of(load_configuration(KEYS, file, {}, accepted=ACCEPTED))
        self.health = Health()
        context = core_context(settings, self.clock, SystemEntropy(), CoreMetrics(self.clock), self.health)
        self._own = context.own
        self._server = HttpServer(core_application(context, self.health), [listener])
        self._in_loop(self._own.load())
        self._in_loop(self._server.start())

    def reload(self) -> None:
        self._in_loop(self._own.load())

    def close(self) -> None:
        self._in_loop(self._server.stop(0.1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreOnSockets]:
    core = CoreOnSockets(tmp_path)
    yield core
    core.close()


@pytest.fixture
def start(core: CoreOnSockets) -> Iterator[Callable[..., RunningOperator]]:
    started: list[RunningOperator] = []

    def make(key: str, **members: Any) -> RunningOperator:
        settings = settings_of(
            {
                "core_attest_url": f"{core.origin}/attest",
                "core_api_token": key,
                "enable_remote_config": True,
                "encrypted_files": True,
            }
            | members
        )
        operator = RunningOperator(settings, core.clock, SystemEntropy(), OperatorMetrics(core.clock))
        started.append(operator)
        return operator

    yield make
    for operator in started:
        operator.close()


def sizes(operator: RunningOperator) -> dict[str, int]:
    return {name: status.entries for name, status in operator.stores.statuses.items()}


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_public_operator_loads_everything(start: Callable[..., RunningOperator], encrypted: bool) -> None:
    optional = {"client_side_token_generate": True, "validate_service_links": True}
    operator = start(PUBLIC, encrypted_files=encrypted, **optional)
    operator.load()
    loaded = sizes(operator)
    assert (loaded["sites"], loaded["clients"], loaded["salts"], loaded["service_links"]) == (8, 8, 4, 2)
    assert operator.core is not None
    assert operator.core.attestation.optout_url == "http://optout:8081"
    assert "Attestation-JWT" in operator.core.attestation.optout_headers()
    assert operator.core.attestation.skew_ms is not None
    assert abs(operator.core.attestation.skew_ms) <= 1000


def test_a_private_operator_loads_what_is_its_own(start: Callable[..., RunningOperator]) -> None:
    operator = start(PRIVATE, operator_type="private")
    operator.load()
    loaded = sizes(operator)
    assert 0 < loaded["clients"] < 8
    assert loaded["salts"] == 4


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("UID2-O-L-999-unknown.key", "public", "unrecognized_key"),
        (DISABLED, "private", "key_disabled"),
        (PRIVATE, "public", "invalid operator type"),
        (NITRO, "private", "protocol not found"),
    ],
)
def test_who_may_not_is_told_why(start: Callable[..., RunningOperator], key: str, kind: str, words: str) -> None:
    with pytest.raises(AttestationRefusedError, match=words):
        start(key, operator_type=kind).load()


def test_a_key_that_is_disabled_later_stops_the_operator(
    core: CoreOnSockets, start: Callable[..., RunningOperator]
) -> None:
    operator = start(PUBLIC)
    operator.load()
    file = core.bucket / "operators/operators.json"
    records = json.loads(file.read_bytes())
    for record in records:
        record["disabled"] = record["disabled"] or record["key"] == PUBLIC
    file.write_text(json.dumps(records))
    metadata = core.bucket / "operators/metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_bytes()) | {"version": 1 << 60}))
    core.reload()
    core.clock.advance(2 * MINUTE)
    assert asyncio.run(operator.stores.refresh("clients")) is False
    assert operator.core is not None
    refusal = operator.core.attestation.refusal
    assert refusal is not None
    assert "key_disabled" in refusal.message
    # What is loaded stays until the program ends, which it does at once.
    assert sizes(operator)["clients"] == 8


def test_a_new_version_arrives_with_the_next_refresh(
    core: CoreOnSockets, start: Callable[..., RunningOperator]
) -> None:
    operator = start(PUBLIC, encrypted_files=False)
    operator.load()
    file = core.bucket / "clients/clients.json"
    file.write_text(json.dumps(json.loads(file.read_bytes())[:5]))
    metadata = core.bucket / "clients/metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_bytes()) | {"version": 1 << 60}))
    assert asyncio.run(operator.stores.refresh("clients")) is True
    assert sizes(operator)["clients"] == 5
