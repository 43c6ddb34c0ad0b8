"""The breaker halts files and nothing else: opt-outs are taken, made to last and told to operators as ever."""

import asyncio
import json
import sys
from array import array
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from optout_process import running_optout
from optout_stage import NOW, OptOut

from uid2.optout.manual_override import Halt, ManualOverride
from uid2.optout.time_ranges import TimeRange
from uid2.optout.traffic_calculator import TrafficCalculator, TrafficRules
from uid2.protocol.ids import EpochSeconds

OVERRIDE = "optout/manual-override.json"


@given(st.lists(st.integers(0, 60)), st.integers(0, 60), st.sets(st.integers(0, 60)))
def test_counted_is_what_one_by_one_counts(times: list[int], start: int, ends: set[int]) -> None:
    edges = sorted(ends)
    allowed = tuple(TimeRange(*pair) for pair in zip(edges[::2], edges[1::2], strict=False))
    rules = TrafficRules(allowed=allowed)
    expected = sum(at >= start and rules.counts(at) for at in times)
    assert rules.counted(array("Q", sorted(times)), start) == expected


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def override_of(service: OptOut) -> ManualOverride:
    return ManualOverride(service.context.bucket, service.settings.manual_override_s3_path)


async def told(service: OptOut, cursor: str) -> list[int]:
    """The numbers of the opt-outs that an operator is told of after a cursor."""
    import base64

    page = await service.tail(cursor)
    return [int.from_bytes(base64.b64decode(entry["identity_hash"])[:4], "big") for entry in page["entries"]]


def calculator_file(folder: Path, *, baseline: int, multiplier: int = 1) -> Path:
    members = {
        "traffic_calc_evaluation_window_seconds": 86_400,
        "traffic_calc_baseline_traffic": baseline,
        "traffic_calc_threshold_multiplier": multiplier,
        "traffic_calc_allowlist_ranges": [],
    }
    path = folder / "calculator.json"
    path.write_text(json.dumps(members))
    return path


@pytest.mark.parametrize("how", ["by hand", "by the calculator"])
def test_the_breaker_never_stops_intake_and_nothing_is_lost(tmp_path: Path, how: str) -> None:
    async def work() -> None:
        rules = {} if how == "by hand" else {"traffic_calc_config_path": str(calculator_file(tmp_path, baseline=3))}
        service = await OptOut(tmp_path, **rules).start()
        if how == "by hand":
            override_of(service).set(EpochSeconds(NOW // 1000), "too many")
        cursor = (await service.tail())["cursor"]
        for n in range(5):
            assert (await service.replicate(n, f"t{n}")).status_code == 200
        first = (await service.produce())["result"]
        assert (first["status"], first["deltas_produced"]) == ("halted", 0)
        assert first["stop_reason"] == ("MANUAL_OVERRIDE_ACTIVE" if how == "by hand" else "CIRCUIT_BREAKER_TRIGGERED")
        # Halted production changes nothing for those who opt out, nor for operators.
        assert (await service.replicate(5, "t5")).status_code == 200
        assert await told(service, cursor) == [0, 1, 2, 3, 4, 5]
        assert await service.context.queue.size() == 6
        again = (await service.produce())["result"]
        assert again["stop_reason"] == "MANUAL_OVERRIDE_ACTIVE"
        assert service.deltas() == {}
        # A restart keeps all of it.
        service.worker.cancel()
        service = await OptOut(tmp_path, **rules).start()
        assert await told(service, cursor) == [0, 1, 2, 3, 4, 5]
        halt = await service.context.producer.halt()
        assert halt is not None
        assert halt.since == NOW // 1000
        if how == "by the calculator":
            assert halt.reason == "circuit breaker: 5 opt-outs in the look-back, the limit is 3"
            calculator_file(tmp_path, baseline=100)
        override_of(service).reset()
        assert await service.context.producer.halt() is None
        assert (await service.produce())["result"]["entries_processed"] == 6
        assert service.recorded() == [0, 1, 2, 3, 4, 5]
        assert await service.context.queue.size() == 0

    run(work())


def test_a_new_deployment_needs_no_seed_file(tmp_path: Path) -> None:
    """In the reference the calculation fails the job while the bucket holds no delta at all."""

    async def work() -> None:
        rules = str(calculator_file(tmp_path, baseline=1000))
        service = await OptOut(tmp_path, traffic_calc_config_path=rules).start()
        assert not list((tmp_path / "bucket").rglob("*.dat"))
        await service.replicate(1)
        assert (await service.produce())["result"]["status"] == "success"
        assert service.recorded() == [1]

    run(work())


def test_how_near_the_traffic_is(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        for n in range(8):
            await service.replicate(n)
        await service.produce()
        await service.context.files.refresh()
        calculator = TrafficCalculator(service.context.bucket)
        files = service.context.files.files
        assert files is not None
        figures = calculator.figures(TrafficRules(86_400, 10, 1), files, (), 0, EpochSeconds(NOW // 1000))
        assert (figures.in_deltas, figures.total, figures.limit) == (8, 8, 10)
        assert (figures.near, figures.trips) == (True, False)
        figures = calculator.figures(TrafficRules(86_400, 8, 1), files, (), 0, EpochSeconds(NOW // 1000))
        assert figures.trips

    run(work())


@pytest.mark.parametrize(
    ("data", "halt"),
    [
        (b'{"manual_override":"DELAYED_PROCESSING"}', Halt()),
        (b'{"manual_override":"delayed_processing","since":"x","reason":5}', Halt()),
        (b'{"manual_override":"DELAYED_PROCESSING","since":7,"reason":"r"}', Halt(EpochSeconds(7), "r")),
        (b'{"manual_override":""}', None),
        (b"[]", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
    ],
)
def test_what_halts(tmp_path: Path, data: bytes, halt: Halt | None) -> None:
    service = OptOut(tmp_path)
    path = tmp_path / "bucket" / OVERRIDE
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert override_of(service).halt() == halt


def test_status_and_metrics_say_since_when_and_how_many_wait(tmp_path: Path) -> None:
    with running_optout(tmp_path) as service:

        def gauge(name: str) -> float:
            lines = httpx.get(f"{service.ops}/metrics").text.splitlines()
            (value,) = (line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + "{"))
            return float(value)

        before = service.status()["queue"]
        assert before == {"waiting": 0, "halted": False, "halted_since": None, "halted_because": None}
        assert gauge("uid2_optout_halted") == 0
        override = tmp_path / "bucket" / OVERRIDE
        override.parent.mkdir(parents=True, exist_ok=True)
        override.write_bytes(b'{"manual_override":"DELAYED_PROCESSING","since":1722506407,"reason":"a flood"}')
        for n in range(3):
            assert service.replicate(n).status_code == 200
        assert service.produce()["result"]["status"] == "halted"
        halted = service.status()["queue"]
        assert halted == {"waiting": 3, "halted": True, "halted_since": 1722506407, "halted_because": "a flood"}
        assert (gauge("uid2_optout_halted"), gauge("uid2_optout_halted_since")) == (1, 1722506407)
        assert gauge("uid2_optout_queue_waiting") == 3
        # A load balancer that took the service out would stop the intake.
        assert httpx.get(f"{service.url}/ops/healthcheck").status_code == 200
        override.unlink()
        assert service.produce()["result"]["entries_processed"] == 3
        assert service.status()["queue"]["waiting"] == 0
        assert gauge("uid2_optout_halted_since") == 0
    assert OptOut(tmp_path).recorded() == [0, 1, 2]
