"""What refreshes, transfers and look-ups of opt-outs count."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uid2.bulk.tables import OptOutView, empty_index
from uid2.operator.context import LOOKUPS_PER_SAMPLE
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.optout_data import OptOutData
from uid2.operator.optout_lookups import TimedOptOuts
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds, FirstLevelHash, RawUid
from uid2.protocol.optout_log import OptOutEntry, encode_entry
from uid2.stores.optout_files import OptOutFiles
from uid2.stores.sources.local import LocalSource

NOW = EpochMillis(1_750_000_000_000)
SECONDS = NOW // 1000
HOUR = 3600
UID = RawUid(bytes(range(32)))
FIRST, SECOND, THIRD = (FirstLevelHash(bytes((n,)) * 32) for n in (1, 2, 3))
DELTA = "delta/2025-06-15/optout-delta-000_2025-06-15T15.0{}.00Z_64692b14.dat"
PARTITION = "partition/optout-partition-000_2025-06-15T00.00.00Z_64692b15.dat"


class Bucket:
    """A folder of which reads can fail and can be held up."""

    def __init__(self, root: Path) -> None:
        self._files = LocalSource(root)
        self._root = root
        self.down = False
        self.on_read: Callable[[], None] = lambda: None

    def put(self, name: str, *entries: tuple[bytes, int]) -> None:
        file = self._root / "optout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (encode_entry(OptOutEntry(flh, UID, EpochSeconds(at))) for flh, at in entries)
        file.write_bytes(b"".join(lines))

    def list(self, prefix: str) -> list[str]:
        return self._files.list(prefix)

    def read(self, path: str, limit: int = 1 << 31) -> bytes:
        self.on_read()
        if self.down:
            raise StoreUnavailableError("down")
        return self._files.read(path, limit)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.bucket = Bucket(folder / "bucket")
        (folder / "bucket").mkdir()
        self.metrics = OperatorMetrics()
        watch = OptOutMetrics(self.metrics)
        files = OptOutFiles(folder / "data", source=self.bucket, transfers=watch)
        self.data = OptOutData(
            Environment.TEST, files, folder / "index", now=lambda: NOW, metrics=watch, old_after_seconds=HOUR
        )

    def value(self, name: str, **labels: str) -> list[float]:
        """A counter or gauge, or count, sum and maximum of a summary; of all label values that are not given."""
        (family,) = [one for one in self.metrics.state() if one["name"] == name]
        series = [(dict(zip(family["labels"], key, strict=True)), values) for key, values in family["series"]]
        found = [values for given, values in series if labels.items() <= given.items()]
        return [sum(parts) for parts in zip(*found, strict=True)]

    def counted(self, name: str, **labels: str) -> float:
        return (self.value(name, **labels) or [0.0])[0]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_files_that_arrive_are_counted_as_they_are_fetched_and_indexed(stage: Stage) -> None:
    pending: list[float] = []
    stage.bucket.on_read = lambda: pending.append(stage.counted("uid2_cloud_downloading", store="optout"))
    stage.bucket.put(PARTITION, (FIRST, SECONDS - 2 * HOUR), (FIRST, SECONDS - HOUR - 1), (SECOND, SECONDS - HOUR))
    stage.bucket.put(DELTA.format(1), (THIRD, 7))
    stage.data.load()
    assert pending == [2, 1]
    assert stage.counted("uid2_cloud_downloading") == 0
    assert stage.counted("uid2_cloud_downloaded_total", store="optout") == 2
    assert stage.counted("uid2_cloud_download_duration_seconds", store_name="optout", status="success") == 2
    assert stage.counted("uid2_optout_partitions_indexed_total") == 1
    assert stage.counted("uid2_optout_deltas_indexed_total") == 1
    assert stage.counted("uid2_optout_processing_seconds", file_type="partitions") == 1
    # One identity twice, one on the edge, and one that is old.
    assert stage.counted("uid2_operator_optout_old_count") == 2
    stage.bucket.put(DELTA.format(2), (THIRD, SECONDS))
    assert asyncio.run(stage.data.refresh())
    assert asyncio.run(stage.data.refresh())
    assert stage.counted("uid2_optout_deltas_indexed_total") == 2
    assert stage.counted("uid2_optout_partitions_indexed_total") == 1
    assert stage.counted("uid2_optout_processing_seconds", file_type="deltas") == 1
    assert stage.counted("uid2_optout_index_updated_total") == 2
    assert stage.counted("uid2_cloud_refreshed_total", store="optout") == 3
    assert stage.counted("uid2_cloud_downloaded_total", store="optout") == 3


def test_a_file_that_does_not_come_is_counted_and_the_next_refresh_heals(stage: Stage) -> None:
    stage.bucket.put(DELTA.format(1), (FIRST, 7))
    stage.bucket.down = True
    assert not asyncio.run(stage.data.refresh())
    assert stage.counted("uid2_cloud_download_failures_total", store="optout") == 1
    assert stage.counted("uid2_cloud_download_duration_seconds", status="failure") == 1
    assert stage.counted("uid2_cloud_refresh_failures_total", store="optout") == 1
    assert stage.counted("uid2_cloud_downloaded_consecutive_refresh_failures") == 1
    assert stage.counted("uid2_cloud_downloading") == 0
    stage.bucket.down = False
    assert asyncio.run(stage.data.refresh())
    assert stage.counted("uid2_cloud_downloaded_consecutive_refresh_failures") == 0
    assert stage.counted("uid2_cloud_downloaded_total") == 1


def test_what_an_operator_never_does_is_shown_as_zero(stage: Stage) -> None:
    text = stage.metrics.render().decode()
    for name in (
        "cloud_uploaded_total",
        "cloud_upload_failures_total",
        "cloud_uploading",
        "cloud_refresh_skipped_total",
    ):
        assert f'uid2_{name}{{application="uid2-operator",store="optout"}} 0.0' in text
    for name in ("bloomfilter_size", "bloomfilter_max"):
        assert f'uid2_optout_{name}{{application="uid2-operator"}} 0.0' in text


def test_one_refresh_at_a_time_and_the_periodic_one_gives_way(stage: Stage) -> None:
    stage.bucket.put(DELTA.format(1), (FIRST, 7))
    reading, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reading.set()
        assert go_on.wait(30)

    async def run() -> None:
        stage.bucket.on_read = hold
        first = asyncio.create_task(stage.data.refresh())
        await asyncio.to_thread(reading.wait, 30)
        second = asyncio.create_task(stage.data.refresh())
        # The first has its list of files already; the second must see what came after.
        stage.bucket.put(DELTA.format(2), (SECOND, 8))
        await stage.data.tick()
        assert not first.done()
        go_on.set()
        assert (await first, await second) == (True, True)

    asyncio.run(run())
    assert stage.counted("uid2_cloud_refresh_skipped_total", store="optout") == 1
    assert stage.counted("uid2_cloud_refreshed_total", store="optout") == 2
    assert [stage.data.view.timestamp_of_hash(flh) for flh in (FIRST, SECOND)] == [7, 8]


def test_look_ups_are_timed_by_what_they_find() -> None:
    metrics = OperatorMetrics()
    view = OptOutView(empty_index(Environment.TEST)).with_entries([(FIRST, UID, 7)])
    timed = TimedOptOuts(view, metrics)
    assert [timed.timestamp_of_hash(flh) for flh in (FIRST, SECOND, THIRD)] == [7, 0, 0]
    assert timed.timestamps_of_ids([encode_base64(UID), "x"]) == [7, None]
    assert timed.timestamps_of_ids([]) == []
    text = metrics.render().decode()
    name = "uid2_optout_get_optout_timestamp_seconds_count"
    assert f'{name}{{application="uid2-operator",bloom_filter="true_positive"}} 1.0' in text
    assert f'{name}{{application="uid2-operator",bloom_filter="true_negative"}} 2.0' in text
    assert 'uid2_optout_get_ad_id_optout_timestamp_seconds_count{application="uid2-operator"} 1.0' in text


def test_of_token_calls_one_in_many_is_timed(operator: Any) -> None:
    for _ in range(LOOKUPS_PER_SAMPLE + 1):
        assert operator.call("/v2/token/generate", {"email": "a@example.com", "optout_check": 1}).status == 200
    timed = [name for name, _ in operator.metrics.observed if name == "uid2_optout_get_optout_timestamp_seconds"]
    assert len(timed) == 2
