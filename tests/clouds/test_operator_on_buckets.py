"""An operator whose stores and opt-out files lie in a bucket: first load, changes, absence, refused credentials."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from cloud_servers import S3, Cloud

from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochMillis, EpochSeconds, FirstLevelHash
from uid2.protocol.optout_log import OptOutEntry, OptOutFileName, encode_entry
from uid2.service.clock import FixedClock, SystemEntropy

VECTORS = Path(__file__).parents[1] / "vectors"
STORES, OPTOUTS = VECTORS / "stores", VECTORS / "optout"
MANIFEST = json.loads((OPTOUTS / "manifest.json").read_bytes())
NOW = EpochMillis(1_763_000_000_000)
NEWER = 1 << 60
FULL_KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
LOADED = ("clients", "keysets", "keyset_keys", "salts", "runtime_config", "sites", "client_side_keypairs")
LATE = "optout-delta-000_2024-08-02T00.10.00Z_0000abcd.dat"
NEW = FirstLevelHash(b"\xee" * 32)
BROKEN = "optout-delta-002_2024-08-01T10.55.00Z_00000002.dat"


def stored(cloud: Cloud) -> None:
    for store in LOADED:
        cloud.upload(STORES / store, f"{store}/")


def operator_on(cloud: Cloud, folder: Path, **members: Any) -> tuple[RunningOperator, OperatorMetrics]:
    settings = {
        "core_s3_bucket": cloud.url,
        "optout_s3_bucket": cloud.url,
        "optout_data_dir": str(folder / "data"),
        "enable_remote_config": True,
        "client_side_token_generate": True,
        **cloud.server.members(),
    }
    clock = FixedClock(NOW)
    metrics = OperatorMetrics(clock)
    return RunningOperator(settings_of(settings | members), clock, SystemEntropy(), metrics), metrics


def optout_file(cloud: Cloud, file: str, data: bytes) -> None:
    name = OptOutFileName.parse(file)
    assert name is not None
    day = f"{file.split('_')[1][:10]}/" if name.kind == "delta" else ""
    cloud.put(f"optout/{name.kind}/{day}{file}", data)


def test_stores_and_opt_outs_load_and_follow_the_bucket(cloud: Cloud, tmp_path: Path) -> None:
    stored(cloud)
    deltas = sorted(OPTOUTS.glob("optout-delta-*Z_*.dat"))
    partitions = sorted(OPTOUTS.glob("optout-partition-*.dat"))
    for file in (*partitions, *(file for file in deltas if file.name != BROKEN)):
        optout_file(cloud, file.name, file.read_bytes())
    # Beside the folder, with a name that begins alike.
    cloud.put("optout-v2/partition/optout-partition-000_2024-08-02T00.03.05Z_014e024f.dat", b"?")
    operator, metrics = operator_on(cloud, tmp_path)
    operator.load()
    assert operator.context.snapshot.clients.find(FULL_KEY) is not None
    assert operator.context.snapshot.salts.select(NOW).table.size == 2
    status = operator.optout_status()
    assert status is not None
    assert status["partitions"] == len(partitions)
    assert operator.context.optouts.timestamp_of_hash(NEW) == 0

    async def refresh(*stores: str) -> list[bool]:
        assert operator._optouts is not None
        return [*[await operator.stores.refresh(store) for store in stores], await operator._optouts.refresh()]

    # Nothing new: nothing changes.
    held = operator.context.snapshot
    assert asyncio.run(refresh("sites", "salts")) == [True] * 3
    assert operator.context.snapshot is held
    metadata = json.loads((STORES / "sites/metadata.json").read_bytes())
    cloud.put("sites/sites.json", json.dumps([{"id": 5, "name": "new", "enabled": True}]).encode())
    cloud.put("sites/metadata.json", json.dumps({**metadata, "version": NEWER}).encode())
    optout_file(cloud, LATE, encode_entry(OptOutEntry(NEW, bytes(range(32)), EpochSeconds(1_722_557_000))))
    assert asyncio.run(refresh("sites")) == [True] * 2
    assert set(operator.context.snapshot.sites) == {5}
    assert operator.context.optouts.timestamp_of_hash(NEW) == 1_722_557_000
    for lookup in MANIFEST["identity_lookups"]:
        if lookup["opted_out"]:
            flh = FirstLevelHash(decode_base64(lookup["first_level_hash"]))
            assert operator.context.optouts.timestamp_of_hash(flh) > 0
    assert 'uid2_cloud_downloaded_total{application="uid2-operator",store="optout"}' in metrics.render().decode()
    operator.close()


def test_what_is_missing_is_named_and_the_old_data_stay(
    cloud: Cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored(cloud)
    metadata = json.loads((STORES / "sites/metadata.json").read_bytes())
    operator, _ = operator_on(cloud, tmp_path)
    operator.load()
    elsewhere = {"version": NEWER, "sites": {"location": "sites/gone.json"}}
    cloud.put("sites/metadata.json", json.dumps(metadata | elsewhere).encode())
    with caplog.at_level(logging.ERROR):
        assert not asyncio.run(operator.stores.refresh("sites"))
    assert f"cannot read sites/gone.json in {cloud.url}: it is not there" in caplog.text
    assert len(operator.context.snapshot.sites) == 8
    operator.close()
    stored(cloud)
    absent, _ = operator_on(cloud, tmp_path, clients_metadata_path="clients/absent.json")
    with pytest.raises(
        StoreUnavailableError, match=r"cannot read clients/absent\.json in .*: it is not there"
    ) as caught:
        absent.load()
    assert "check the path" in caught.value.next_step
    absent.close()


def test_opt_out_files_of_an_old_deployment(s3: Cloud, tmp_path: Path) -> None:
    stored(s3)
    entry = encode_entry(OptOutEntry(NEW, bytes(range(32)), EpochSeconds(7)))
    s3.put("optout/log/2024-08-02/optout-log-000_2024-08-02T00.10.00Z_0000abcd.dat", entry)
    s3.put("optout/snapshot/optout-snapshot-000_2024-08-02T00.03.05Z_014e024f.dat", entry)
    operator, _ = operator_on(s3, tmp_path, optout_s3_path_compat=True)
    operator.load()
    status = operator.optout_status()
    assert status is not None
    assert (status["deltas"], status["partitions"], status["entries"]) == (1, 1, 1)
    operator.close()


def test_a_bucket_that_is_not_there(cloud: Cloud, tmp_path: Path) -> None:
    operator, _ = operator_on(cloud, tmp_path, core_s3_bucket=f"{cloud.server.scheme}://nobody-has-this-bucket")
    with pytest.raises(StoreUnavailableError, match=r"in .*://nobody-has-this-bucket: it is not there"):
        operator.load()
    operator.close()


def test_refused_credentials_say_so_without_showing_them(s3: Cloud, tmp_path: Path) -> None:
    assert isinstance(s3.server, S3)
    stored(s3)
    with s3.server.asking_for_credentials() as (key_id, secret):
        good = {"aws_access_key_id": key_id, "aws_secret_access_key": secret}
        operator, _ = operator_on(s3, tmp_path, **good)
        operator.load()
        operator.close()
        for bad in ({"aws_access_key_id": "AKIACANARYCANARY"}, {"aws_secret_access_key": "canary-secret"}):
            refused, _ = operator_on(s3, tmp_path, **(good | bad))
            with pytest.raises(StoreUnavailableError, match="the store refuses the credentials") as caught:
                refused.load()
            text = caught.value.diagnosis()
            assert "check the credentials" in text
            for canary in (key_id, secret, *bad.values()):
                assert canary.lower() not in text.lower()
            refused.close()


def test_a_store_that_nobody_runs(s3: Cloud, tmp_path: Path) -> None:
    operator, _ = operator_on(s3, tmp_path, aws_s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match="the store cannot be used") as caught:
        operator.load()
    assert "can be reached" in caught.value.next_step
    operator.close()
