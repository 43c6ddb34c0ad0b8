"""How many processes serve, what they are handed, and what remains of those that end."""

import json
from pathlib import Path

import pytest

from uid2.operator.context import OptOutRequest
from uid2.operator.settings import settings_of
from uid2.operator.worker_count import worker_count
from uid2.operator.worker_messages import Entries, Logout, handed_settings, received, sent, taken_settings
from uid2.operator.worker_pool import shared_out
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds, FirstLevelHash, RawUid
from uid2.service.clock import FixedClock
from uid2.service.gathered_metrics import GatheredMetrics
from uid2.service.metrics import MetricKind, Metrics, render_states


@pytest.mark.parametrize(
    ("members", "cores", "libos", "processes"),
    [
        ({}, 8, False, 1),
        ({"service_instances": 16}, 8, False, 8),
        ({"service_instances": 3}, 8, False, 3),
        ({"service_instances": 16, "worker_processes": 1}, 8, False, 1),
        ({"worker_processes": 4}, 2, False, 4),
        ({"service_instances": 16}, 8, True, 1),
        ({"worker_processes": 1}, 8, True, 1),
    ],
)
def test_the_number_of_processes(members: dict[str, int], cores: int, libos: bool, processes: int) -> None:
    assert worker_count(settings_of(members), cores, libos=libos) == processes


def test_several_processes_inside_an_enclave_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="worker_processes is 2, but inside an enclave") as caught:
        worker_count(settings_of({"worker_processes": 2}), 8, libos=True)
    assert "set worker_processes to 1" in caught.value.next_step


def test_settings_reach_a_worker_without_secrets(tmp_path: Path) -> None:
    settings = settings_of(
        {
            "core_api_token": "canary-token",
            "aws_secret_access_key": "canary-key",
            "static_dir": str(tmp_path),
            "identity_scope": "euid",
            "salt_refresh_ms": 77,
            "identity_token_expires_after_seconds": 5,
            "bulk_threads": 5,
            "bulk_queue_bytes": 1000,
        }
    )
    text = json.dumps(handed_settings(shared_out(settings, 2)))
    assert "canary" not in text
    taken = taken_settings(json.loads(text))
    assert (taken.core_api_token, taken.aws_secret_access_key) == (None, None)
    assert (taken.static_dir, taken.identity_scope, taken.refresh_ms["salts"]) == (
        tmp_path, settings.identity_scope, 77,
    )  # fmt: skip
    assert taken.runtime_members == settings.runtime_members
    assert (taken.lane_threads, taken.bulk_queue_bytes) == (2, 500)


def test_a_logout_and_entries_survive_the_channel() -> None:
    optout = OptOutRequest(FirstLevelHash(b"\xff" * 32), RawUid(b"\x00" * 33), EpochSeconds(7), email="a", trace_id="t")
    assert received(json.loads(json.dumps(sent(Logout.of(optout)))), Logout).request() == optout
    entries = [(b"\xff" * 32, b"\x00" * 32, 7)]
    assert received(json.loads(json.dumps(sent(Entries(entries)))), Entries).entries == entries


def counted(requests: int, age: float) -> Metrics:
    metrics = Metrics("x", FixedClock(0))
    metrics.declare("requests_total", MetricKind.COUNTER)
    metrics.declare("age", MetricKind.GAUGE)
    metrics.declare("inputs", MetricKind.SUMMARY)
    metrics.count("requests_total", requests)
    metrics.gauge("age", age)
    metrics.observe("inputs", age)
    return metrics


def test_what_an_ended_process_counted_stays_in_the_sum() -> None:
    gathered = GatheredMetrics()
    gathered.update([(1, counted(3, 9.0).state()), (2, counted(4, 5.0).state())], {1, 2})
    # The first has ended, a third began, and the second was late.
    gathered.update([(3, counted(1, 2.0).state())], {2, 3})
    text = render_states("x", gathered.states()).decode()
    for line in (
        'requests_total{application="x"} 8.0',
        'age{application="x"} 5.0',
        'inputs_count{application="x"} 3.0',
        'inputs_sum{application="x"} 16.0',
        'inputs_max{application="x"} 5.0',
    ):
        assert line in text
    gathered.update([], {9})
    assert 'requests_total{application="x"} 8.0' in render_states("x", gathered.states()).decode()
