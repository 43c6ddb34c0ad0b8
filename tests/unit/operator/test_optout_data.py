"""Opt-out data: refreshes keep what was taken, failures keep everything."""

import asyncio
from pathlib import Path

import pytest

from uid2.operator.context import SaltExpiry
from uid2.operator.optout_data import OptOutData
from uid2.operator.stop_rules import HOUR_MS, reason_to_stop
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds, FirstLevelHash, RawUid
from uid2.protocol.optout_log import OptOutEntry, encode_entry
from uid2.stores.optout_files import OptOutFiles

FIRST, SECOND, THIRD = (FirstLevelHash(bytes((n,)) * 32) for n in (1, 2, 3))
UID = RawUid(bytes(range(32)))


def write_delta(folder: Path, name: str, flh: bytes) -> None:
    target = folder / "consumer" / "delta"
    target.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(encode_entry(OptOutEntry(flh, UID, EpochSeconds(100))))


def test_a_refresh_adds_files_and_keeps_what_was_taken(tmp_path: Path) -> None:
    write_delta(tmp_path, "optout-delta-000_2024-08-01T10.07.00Z_64692b14.dat", FIRST)
    seen = []
    data = OptOutData(Environment.TEST, OptOutFiles(tmp_path), tmp_path / "index", on_change=seen.append)
    assert data.load()
    assert data.view.timestamp_of_hash(FIRST) == 100
    data.take_entries([(SECOND, UID, 200)])
    write_delta(tmp_path, "optout-delta-000_2024-08-01T10.12.00Z_64692b15.dat", THIRD)
    assert asyncio.run(data.refresh())
    assert [data.view.timestamp_of_hash(flh) for flh in (FIRST, SECOND, THIRD)] == [100, 200, 100]
    assert seen[-1] is data.view


def test_a_failed_refresh_removes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_delta(tmp_path, "optout-delta-000_2024-08-01T10.07.00Z_64692b14.dat", FIRST)
    data = OptOutData(Environment.TEST, OptOutFiles(tmp_path), tmp_path / "index")
    data.load()
    (tmp_path / "consumer" / "delta" / "optout-delta-000_2024-08-01T10.12.00Z_64692b15.dat").write_bytes(b"x" * 71)
    assert not asyncio.run(data.refresh())
    assert (data.view.timestamp_of_hash(FIRST), data.failures) == (100, 1)
    assert "the old data stay" in caplog.text


def test_journal_entries_count_without_files() -> None:
    data = OptOutData(Environment.TEST, None, None, [OptOutEntry(FIRST, UID, EpochSeconds(7))])
    assert (data.load(), data.view.timestamp_of_hash(FIRST)) == (False, 7)


def test_the_operator_stops_after_the_windows_and_not_before() -> None:
    began = EpochMillis(1000)
    expiry = SaltExpiry(since=began)
    edge = EpochMillis(began + 12 * HOUR_MS)
    assert reason_to_stop(edge, expiry, 12, [], 12) is None
    assert "expired salts" in (reason_to_stop(EpochMillis(edge + 1), expiry, 12, [], 12) or "")
    assert "clients" in (reason_to_stop(began, SaltExpiry(), 12, ["clients"], 12) or "")
