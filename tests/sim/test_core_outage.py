"""An attested operator on a clock that the test moves: it serves through an hour without Core and stops at twelve."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from uid2.client.operator import OperatorClient
from uid2.core.assembly import core_context
from uid2.core.metric_names import CoreMetrics
from uid2.core.routes import core_application
from uid2.core.settings import ACCEPTED, KEYS
from uid2.core.settings import settings_of as core_settings_of
from uid2.devstack.configurations import JWT_KEY, ROOT, Addresses, SharedSecrets, core_config, operator_config
from uid2.devstack.demo_programs import create_jwt_key
from uid2.devstack.simulated_tee import SimulatedTee, simulated_tee
from uid2.devstack.state import State, open_state
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.routes import operator_application
from uid2.operator.running import RunningOperator, StoppedByRule
from uid2.operator.settings import settings_of
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode, exit_code_of
from uid2.service.health import Health
from uid2.service.http import Application
from uid2.simtee.client import SocketQuoteSource
from uid2.simtee.serving import serving

HOST = "127.0.0.1"
MINUTE = 60_000
STEP_MINUTES = 10
NOW = EpochMillis(int(time.time()) * 1000)

# The opt-outs are not what fails here.
WITHOUT_OPTOUT = {"optout_metadata_path": None, "optout_api_uri": None}


class Universe:
    """Core and one operator in this process, on one clock; the TEE is the simulated one."""

    def __init__(self, folder: Path, tee: SimulatedTee) -> None:
        self.clock = FixedClock(NOW)
        self.state = open_state(folder, salts=20, scope="uid2", now=NOW)
        self._outside = ExitStack()
        self._core = ExitStack()
        (folder / JWT_KEY).write_bytes(create_jwt_key())
        (folder / ROOT).write_text(tee.root_pem)
        # The address must be known before Core is made: a first server finds a free port.
        with serving(_nothing) as origin:
            self.origin = origin
        self._application = self._make_core(folder, self.state, tee)
        self.start_core()
        members = operator_config(self.state, folder, self._addresses(), 0, tee) | WITHOUT_OPTOUT
        settings = settings_of(members | {"optout_data_dir": None})
        quotes = SocketQuoteSource(str(tee.socket))
        self.operator = RunningOperator(settings, self.clock, SystemEntropy(), OperatorMetrics(self.clock), quotes)
        self.operator.load()
        url = self._outside.enter_context(serving(operator_application(self.operator.context, Health())))
        credentials = self.state.credentials
        client = OperatorClient(url, credentials.client_key, credentials.client_secret)
        self.client = self._outside.enter_context(client)

    def _make_core(self, folder: Path, state: State, tee: SimulatedTee) -> Application:
        file = folder / "core.json"
        file.write_text(json.dumps(core_config(state, folder, self._addresses(), SharedSecrets.new(), tee)))
        settings = core_settings_of(load_configuration(KEYS, file, {}, accepted=ACCEPTED))
        health = Health()
        context = core_context(settings, self.clock, SystemEntropy(), CoreMetrics(self.clock), health)
        asyncio.run(context.own.load())
        return core_application(context, health)

    def _addresses(self) -> Addresses:
        return Addresses(HOST, self.origin, self.origin)

    def start_core(self) -> None:
        self._core.enter_context(serving(self._application, HOST, urlsplit(self.origin).port or 0))

    def stop_core(self) -> None:
        self._core.close()

    def pass_time(self, minutes: int) -> None:
        """What the operator does meanwhile, and a token every ten minutes."""
        for _ in range(minutes // STEP_MINUTES):
            self.clock.advance(STEP_MINUTES * MINUTE)
            attestation = self.attestation
            if attestation.due():
                attestation.renew()
            self.refresh()
            self.operator.check()
            body = self.client.generate({"email": "someone@example.com"}).body
            assert body is not None
            assert body.advertising_token

    def refresh(self) -> bool:
        async def every() -> list[bool]:
            return [await self.operator.stores.refresh(name) for name in self.operator.stores.statuses]

        return all(asyncio.run(every()))

    @property
    def attestation(self):  # type: ignore[no-untyped-def]
        assert self.operator.core is not None
        return self.operator.core.attestation

    def close(self) -> None:
        self._outside.close()
        self.operator.close()
        self.stop_core()


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody calls")


@pytest.fixture
def universe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Universe]:
    with simulated_tee(HOST, EpochSeconds(NOW // 1000)) as tee:
        running = Universe(tmp_path, tee)
        # The client's clock goes with the others.
        monkeypatch.setattr("uid2.client.operator.time.time_ns", lambda: running.clock.now_ms() * 1_000_000)
        yield running
        running.close()


def test_an_hour_without_core_is_served_through(universe: Universe) -> None:
    universe.stop_core()
    universe.pass_time(60)
    assert not universe.refresh()
    status = universe.attestation.status()
    assert 0 < status["stops_in_seconds"] <= 11 * 3600 + STEP_MINUTES * 60
    universe.start_core()
    universe.clock.advance(2 * MINUTE)
    assert universe.refresh()
    assert universe.attestation.status()["stops_in_seconds"] is None
    # With Core back it renews its attestation as ever.
    universe.pass_time(150)
    assert universe.attestation.attested


def test_at_twelve_hours_it_stops_and_has_said_so_before(universe: Universe, caplog: pytest.LogCaptureFixture) -> None:
    universe.stop_core()
    caplog.set_level(logging.CRITICAL, "uid2.operator.core_outage")
    universe.refresh()
    universe.pass_time(9 * 60 + 50)
    assert [m for m in caplog.messages if "this operator stops" in m] == []
    universe.pass_time(60)
    # More than an hour before the end, in the log and in /ops/status.
    assert [m for m in caplog.messages if "this operator stops in 120 minutes" in m]
    status = universe.attestation.status()
    assert status["attested"] is False
    assert status["stops_in_seconds"] >= 3600
    assert status["stops_at"]
    universe.pass_time(60)
    with pytest.raises(StoppedByRule, match="12 hours") as stop:
        universe.pass_time(20)
    assert exit_code_of(stop.value) == ExitCode.FAILURE
    assert stop.value.next_step
