"""What health, metrics and the log say of stores: first loads, expired salts, encrypted files."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_core import FakeCore

from uid2.operator.context import SALTS_REPORT_MS, SaltExpiry
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.health import Health
from uid2.service.messages import Response, json_response
from uid2.stores.snapshot import SaltSnapshots

NOW = EpochMillis(1_750_000_000_000)
KEY = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
EVERY_STORE = (
    "cloud_encryption_keys", "site", "client_side_keypairs", "service", "service_link", "auth", "keysetkey", "keyset",
    "salt", "runtime_config",
)  # fmt: skip


@pytest.fixture
def core() -> Iterator[FakeCore]:
    core = FakeCore(FixedClock(NOW))
    core.start()
    yield core
    core.close()


def running(core: FakeCore, **members: Any) -> tuple[RunningOperator, Health, OperatorMetrics]:
    settings = settings_of(
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
    health, metrics = Health(), OperatorMetrics(core.clock)
    return RunningOperator(settings, core.clock, SystemEntropy(), metrics, health=health), health, metrics


def test_every_store_has_a_part_that_says_why_it_is_not_there_yet(
    core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, health, _ = running(core)
    expected = [f"{store}-rotator: not started" for store in EVERY_STORE]
    assert sorted(health.response().body.decode().splitlines()) == sorted([*expected, "cloudsync-optout: not started"])
    seen: list[str] = []
    failing = iter([json_response(500, {})])
    core.replies["/key/keyset/refresh"] = lambda _: next(failing, None)

    def pause(seconds: float) -> bool:
        seen.extend(health.response().body.decode().splitlines())
        core.clock.advance(int(seconds * 1000))
        return False

    monkeypatch.setattr(operator._closing, "wait", pause)
    operator.load()
    assert seen[0].startswith("keyset-rotator: E12: Data Download Failure - HTTP response code 500")
    assert seen[-1] == "cloudsync-optout: not started"
    assert (health.response().status, health.response().body) == (200, b"OK")
    operator.close()


def test_a_later_failure_leaves_health_as_it_was(core: FakeCore) -> None:
    operator, health, _ = running(core)
    operator.load()
    core.replies["/clients/refresh"] = lambda _: json_response(500, {})
    assert not asyncio.run(operator.stores.refresh("clients"))
    assert health.response().status == 200
    operator.close()


def test_only_needed_stores_have_a_part(core: FakeCore) -> None:
    _, health, _ = running(core, client_side_token_generate=False, validate_service_links=False, encrypted_files=False)
    names = {line.partition(":")[0] for line in health.response().body.decode().splitlines()}
    stores = ("auth", "keysetkey", "keyset", "salt", "runtime_config")
    assert names == {"cloudsync-optout"} | {f"{store}-rotator" for store in stores}


def test_encrypted_files_are_counted_by_key_and_outcome(core: FakeCore) -> None:
    operator, _, metrics = running(core)
    operator.load()
    name = "uid2_cloud_decryption_runs_total"

    def runs(store: str, status: str) -> float:
        (family,) = [one for one in metrics.state() if one["name"] == name]
        return sum(values[0] for key, values in family["series"] if key[1:] == [store, status])

    assert [runs(store, "SUCCESS") for store in ("sites", "clients", "keysets", "salts", "services")] == [1, 1, 1, 2, 0]
    content = "/content/sites/encrypted/999_public/sites.json"
    core.replies["/sites/refresh"] = lambda _: json_response(
        200, {"version": 1 << 60, "generated": 1, "sites": {"location": f"{core.origin}{content}?signature=secret"}}
    )
    for key_id, status in ((4711, "KEY_NOT_FOUND"), (1, "INTERNAL_DECRYPTION_FAILURE")):
        body = b'{"key_id":%d,"encryption_version":"1.0","encrypted_payload":"AAAA"}' % key_id
        core.replies[content] = lambda _, body=body: Response(200, body)  # type: ignore[misc]
        assert not asyncio.run(operator.stores.refresh("sites"))
        assert runs("sites", status) == 1
        problem = operator.stores.statuses["sites"].problem or ""
        assert f"key_id={key_id}" in problem
        assert content in problem
        assert "signature" not in problem
    operator.close()


def expire(operator: Any) -> None:
    salts: SaltSnapshots = operator.context.snapshot.salts
    (old,) = salts.snapshots[:1]
    operator.exchange(salts=replace(salts, snapshots=(replace(old, expires=EpochMillis(NOW - 1)),)))


def reports(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage() == "all salts are expired" for record in caplog.records)


def test_expired_salts_are_reported_at_most_every_ten_minutes(operator: Any, caplog: pytest.LogCaptureFixture) -> None:
    def use() -> int:
        # A request is served as before.
        assert operator.call("/v2/token/generate", {"email": "a@example.com", "optout_check": 1}).status == 200
        return reports(caplog)

    with caplog.at_level(logging.ERROR):
        assert use() == 0
        expire(operator)
        assert (use(), use()) == (1, 1)
        operator.context.clock.advance(SALTS_REPORT_MS - 1)
        assert use() == 1
        operator.context.clock.advance(1)
        assert (use(), use()) == (2, 2)
    assert operator.context.salt_expiry.since == NOW


def test_of_several_processes_one_reports_and_a_clock_set_back_silences_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, whole = SaltExpiry(reports=False), SaltExpiry()
    with caplog.at_level(logging.ERROR):
        worker.used_expired(NOW, NOW)
        assert reports(caplog) == 0
        whole.used_expired(NOW, EpochMillis(NOW + 60_000))
        whole.used_expired(EpochMillis(NOW - 5), EpochMillis(NOW + 120_000))
        assert (reports(caplog), whole.since) == (1, NOW - 5)
        whole.used_expired(NOW, EpochMillis(NOW - 86_400_000))
        assert reports(caplog) == 2
