"""Old opt-out data show from outside: in /ops/status and in metrics, while everything that was loaded still counts."""

import asyncio
import shutil
from pathlib import Path

import pytest

from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind, OptOutFileName, encode_entry
from uid2.service.clock import FixedClock, SystemEntropy

NOW = EpochMillis(1_750_000_000_000)
SAMPLE = Path(__file__).parents[2] / "vectors" / "stores" / "operator-mock"
STORES = ("clients", "keysets", "keyset_keys", "salts", "runtime_config")
PREFIX = "com.uid2.core/test"


@pytest.fixture
def operator(tmp_path: Path) -> RunningOperator:
    shutil.copytree(SAMPLE, tmp_path / "root" / PREFIX)
    members = {
        "storage_mock": True,
        "storage_mock_root": str(tmp_path / "root"),
        "enable_remote_config": True,
        "optout_data_dir": str(tmp_path / "optout"),
        **{f"{store}_metadata_path": f"/{PREFIX}/{store}/metadata.json" for store in STORES},
    }
    write_delta(tmp_path, 600, encode_entry(OptOutEntry(b"\x05" * 32, b"\x06" * 32, EpochSeconds(100))))
    clock = FixedClock(NOW)
    operator = RunningOperator(settings_of(members), clock, SystemEntropy(), OperatorMetrics(clock))
    operator.load()
    return operator


def write_delta(folder: Path, seconds_ago: int, data: bytes) -> None:
    name = OptOutFileName(OptOutFileKind.DELTA, 0, EpochSeconds(NOW // 1000 - seconds_ago), 1).format()
    target = folder / "optout/consumer/delta"
    target.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(data)


def gauges(operator: RunningOperator) -> dict[str, float]:
    operator.sample_optouts()
    lines = operator._metrics.render().decode().splitlines()
    named = (line.rsplit(" ", 1) for line in lines if line.startswith("uid2_operator_optout_"))
    return {name.split("{")[0].removeprefix("uid2_operator_optout_"): float(value) for name, value in named}


def test_staleness_shows_in_status_and_metrics(operator: RunningOperator, tmp_path: Path) -> None:
    """In the reference nothing tells the age of the index, and a refresh that fails may count as a good one."""
    status = operator.optout_status()
    assert status is not None
    assert (status["newest_file_age_seconds"], status["refreshed_seconds_ago"], status["problem"]) == (600, 0, None)
    write_delta(tmp_path, 300, b"x" * 71)
    operator._clock.advance(3_600_000)  # type: ignore[attr-defined]
    assert operator._optouts is not None
    assert not asyncio.run(operator._optouts.refresh())
    status = operator.optout_status()
    assert status is not None
    assert (status["newest_file_age_seconds"], status["refreshed_seconds_ago"]) == (4200, 3600)
    assert (status["failures"], status["entries"]) == (1, 1)
    assert "no multiple of 72" in str(status["problem"])
    found = gauges(operator)
    assert (found["file_age_seconds"], found["refresh_age_seconds"]) == (4200, 3600)
    lines = operator._metrics.render().decode().splitlines()
    wanted = "uid2_cloud_downloaded_consecutive_refresh_failures{"
    (failing,) = (line for line in lines if line.startswith(wanted) and 'store="optout"' in line)
    assert float(failing.rsplit(" ", 1)[1]) == 1
    assert operator.context.optouts.timestamp_of_hash(b"\x05" * 32) == 100  # type: ignore[arg-type]
    operator.close()
