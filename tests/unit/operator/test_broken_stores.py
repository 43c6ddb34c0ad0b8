"""A broken file of each store: at start the message that names it and exit code 2; on refresh the old data stay."""

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uid2.operator.main import serve
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.stores.kinds import KINDS

VECTORS = Path(__file__).parents[2] / "vectors" / "stores"
NOW = 1_763_000_000_000
NEWER = 1 << 60
RUNTIME, SALTS = "runtime_config", "salts"
SALT_FILE = "salts/salts.txt.1745907348982"
# Of the last record of each store: the member, and what it becomes.
BROKEN: dict[str, tuple[str, Any]] = {
    "cloud_encryption_keys": ("secret", "?"),
    "sites": ("id", "x"),
    "client_side_keypairs": ("public_key", "?"),
    "services": ("service_id", "x"),
    "service_links": ("site_id", "x"),
    "clients": ("key_salt", 5),
    "keyset_keys": ("secret", "AAAA"),
    "keysets": ("keyset_id", None),
    SALTS: ("", None),
    RUNTIME: ("refresh_token_expires_after_seconds", "soon"),
}


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    shutil.copytree(VECTORS, tmp_path / "bucket")
    return tmp_path / "bucket"


def members(bucket: Path, store: str) -> dict[str, Any]:
    """An operator that loads every store, the keys of encrypted files only where these are what is broken."""
    scope = "encrypted/999_public/" if store == "cloud_encryption_keys" else ""
    paths = {name: f"{name}/{scope if kind.encryptable else ''}metadata.json" for name, kind in KINDS.items()}
    return {
        "core_s3_bucket": f"file://{bucket}",
        "enable_remote_config": True,
        "client_side_token_generate": True,
        "validate_service_links": True,
        "encrypted_files": bool(scope),
        **{f"{name}_metadata_path": path for name, path in paths.items()},
    }


def spoil(bucket: Path, store: str) -> str:
    """A newer version of a store that cannot be read; the place that the message must name."""
    member, value = BROKEN[store]
    metadata = bucket / store / "metadata.json"
    document = {**json.loads(metadata.read_bytes()), "version": NEWER}
    if store == RUNTIME:
        document["runtime_config"][member] = value
    metadata.write_text(json.dumps(document))
    if store == RUNTIME:
        return f"{member} must be a whole number of seconds (file {store}/metadata.json)"
    if store == SALTS:
        lines = (bucket / SALT_FILE).read_text().splitlines()
        (bucket / SALT_FILE).write_text("\n".join([lines[0], lines[1].replace(",", ";")]))
        return f"(file {SALT_FILE}, record 1)"
    file = bucket / store / f"{store}.json"
    records = json.loads(file.read_bytes())
    records[-1][member] = value
    file.write_text(json.dumps(records))
    return f"file {store}/{store}.json, record {len(records) - 1}, field {member}"


def test_every_store_is_in_the_table() -> None:
    assert set(BROKEN) == set(KINDS)


@pytest.mark.parametrize("store", BROKEN)
def test_at_start_the_place_is_named_and_the_exit_code_is_2(
    bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    place = spoil(bucket, store)
    file = tmp_path / "operator.json"
    file.write_text(json.dumps(members(bucket, store) | {"http_host": "127.0.0.1", "http_loop": "asyncio"}))
    assert serve(file, {"port_offset": "23200"}) == 2
    last = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert place in last["message"]
    assert (last["exit_code"], bool(last["next_step"])) == (2, True)


@pytest.mark.parametrize("store", BROKEN)
def test_on_refresh_the_old_data_stay_and_metric_and_log_say_so(
    bucket: Path, caplog: pytest.LogCaptureFixture, store: str
) -> None:
    clock = FixedClock(NOW)
    metrics = OperatorMetrics(clock)
    operator = RunningOperator(settings_of(members(bucket, store)), clock, SystemEntropy(), metrics)
    operator.load()
    before = operator.context.snapshot
    place = spoil(bucket, store)
    label = f'{{application="uid2-operator",store="{KINDS[store].component}"}}'
    with caplog.at_level(logging.ERROR):
        assert not asyncio.run(operator.stores.refresh(store))
    assert operator.context.snapshot is before
    (record,) = caplog.records
    line = record.getMessage()
    assert record.__dict__["next_step"]
    assert f"store {store} could not be refreshed, the old data stay" in line
    assert place in line
    text = metrics.render().decode()
    assert f"uid2_config_store_refresh_failures_total{label} 1.0" in text
    assert f"uid2_config_store_consecutive_refresh_failures{label} 1.0" in text
    shutil.copytree(VECTORS, bucket, dirs_exist_ok=True)
    document = json.loads((bucket / store / "metadata.json").read_bytes())
    (bucket / store / "metadata.json").write_text(json.dumps({**document, "version": NEWER}))
    assert asyncio.run(operator.stores.refresh(store))
    assert f"uid2_config_store_consecutive_refresh_failures{label} 0.0" in metrics.render().decode()
    operator.close()
