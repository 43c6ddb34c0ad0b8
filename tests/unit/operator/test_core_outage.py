"""An operator without Core: the twelve hours, announced and kept."""

import logging
from collections.abc import Iterator

import pytest
from core_side import NOW, Side, clients, side_with
from fake_core import FakeCore

from uid2.operator.core_outage import ANNOUNCED_BEFORE, HOUR, LONGEST_FAILURE, CoreOutage, FailureWindow
from uid2.operator.metric_names import OperatorMetrics
from uid2.protocol.errors import StoreUnavailableError
from uid2.service.clock import FixedClock
from uid2.service.messages import json_response


@pytest.fixture
def core() -> Iterator[FakeCore]:
    core = FakeCore(FixedClock(NOW))
    core.start()
    yield core
    core.close()
    while clients:
        clients.pop().close()


def side_of(core: FakeCore) -> Side[CoreOutage]:
    return side_with(core, CoreOutage(core.clock, OperatorMetrics(core.clock)))


def test_the_stop_is_announced_and_then_due(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    side = side_of(core)
    side.read()
    caplog.set_level(logging.WARNING)
    caplog.clear()
    core.stop()
    with pytest.raises(StoreUnavailableError):
        side.read()
    assert side.attestation.status()["stops_in_seconds"] == LONGEST_FAILURE
    side.advance(LONGEST_FAILURE - ANNOUNCED_BEFORE - 1)
    assert (side.watch.reason_to_stop(), caplog.messages) == (None, [])
    side.advance(1)
    assert side.watch.reason_to_stop() is None
    assert [m for m in caplog.messages if "this operator stops in 120 minutes" in m]
    side.advance(ANNOUNCED_BEFORE - 1)
    assert side.watch.reason_to_stop() is None
    side.advance(1)
    assert side.watch.reason_to_stop() == "reaching Core has failed for 12 hours"


def test_one_answer_ends_the_countdown(core: FakeCore) -> None:
    side = side_of(core)
    side.read()
    core.stop()
    with pytest.raises(StoreUnavailableError):
        side.read()
    core.start()
    side.advance(3600)
    side.read()
    assert side.attestation.status()["stops_in_seconds"] is None
    side.advance(LONGEST_FAILURE)
    assert side.watch.reason_to_stop() is None


def test_answers_to_refreshes_do_not_hide_that_attesting_fails(core: FakeCore) -> None:
    core.lifetime_ms = 30 * 3_600_000
    side = side_of(core)
    side.read()
    core.replies["/attest"] = lambda _: json_response(500, {})
    side.advance(30 * HOUR - 600)
    side.attestation.renew()
    side.read()
    assert side.attestation.status()["stops_because"] == "attesting with Core"


def test_the_limit_is_twelve_hours() -> None:
    window = FailureWindow("x")
    assert window.left(5.0) is None
    window.failed(10.0)
    window.failed(20.0)
    assert (window.left(20.0), LONGEST_FAILURE) == (12 * 3600 - 10, 43_200)
