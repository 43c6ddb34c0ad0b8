"""The official SDK sees a salt rotation: new raw UIDs, the previous ones beside them, and when to ask again."""

import datetime as dt
import json
import os
import random
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import httpx
from uid2_client import IdentityMapV3Client, IdentityMapV3Input

from running_stack import command, free_offset
from uid2.admin.clients import add_client
from uid2.admin.local_folder import LocalFolder
from uid2.admin.salt_rotation import DAY_MS
from uid2.admin.salt_store import rotate_salts
from uid2.admin.settings import UniverseSettings
from uid2.admin.sites import add_site
from uid2.admin.transaction import Universe
from uid2.admin.universe import initialise
from uid2.protocol.ids import EpochMillis, Role

SALTS = 2000
EMAILS = [f"person{n}@example.com" for n in range(4000)]


def test_a_rotation_reaches_the_sdk(tmp_path: Path) -> None:
    today = EpochMillis(time.time_ns() // 1_000_000 // DAY_MS * DAY_MS)
    clock = [EpochMillis(today - DAY_MS // 2)]
    store = tmp_path / "store"
    store.mkdir()
    universe = Universe(LocalFolder(store), lambda: clock[0], random.Random(1).randbytes)
    universe.run(lambda c: initialise(c, UniverseSettings(environment="development"), SALTS))
    site = universe.run(lambda c: add_site(c, "Advertiser", registrable=lambda name: name)).result
    issued = universe.run(lambda c: add_client(c, "key", site.id, [Role.MAPPER])).result
    offset = free_offset()
    config = tmp_path / "operator.json"
    members = {
        "environment": "development",
        "storage_mock": True,
        "storage_mock_root": str(store),
        "salt_refresh_ms": 200,
        "salts_refresh_ms": 200,
        "identity_environment": "test",
        "identity_token_expires_after_seconds": 3600,
        "refresh_token_expires_after_seconds": 86400,
        "refresh_identity_token_after_seconds": 900,
        "sharing_token_expiry_seconds": 2592000,
        "http_host": "127.0.0.1",
    }
    config.write_text(json.dumps(members))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command("operator", "serve", "--config", str(config)),
            stderr=log,
            env={**os.environ, "port_offset": str(offset)},
        )
    try:
        ops = f"http://127.0.0.1:{9080 + offset}"
        _wait(lambda: httpx.get(f"{ops}/ops/ready").status_code == 200, process, tmp_path / "log")
        client = IdentityMapV3Client(f"http://127.0.0.1:{8080 + offset}", issued.key, issued.secret)
        before = client.generate_identity_map(IdentityMapV3Input.from_emails(EMAILS)).mapped_identities
        version = _salts_version(ops)

        clock[0] = EpochMillis(time.time_ns() // 1_000_000)
        rotated = universe.run(lambda c: rotate_salts(c, today, Fraction(1))).result
        _wait(lambda: _salts_version(ops) != version, process, tmp_path / "log")
        after = client.generate_identity_map(IdentityMapV3Input.from_emails(EMAILS)).mapped_identities
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)

    changed = [email for email in EMAILS if after[email].current_raw_uid != before[email].current_raw_uid]
    assert 0 < rotated < SALTS
    assert 0 < len(changed) < len(EMAILS)
    assert all(after[email].previous_raw_uid == before[email].current_raw_uid for email in changed)
    assert all(after[email].previous_raw_uid is None for email in set(EMAILS) - set(changed))
    due = dt.datetime.fromtimestamp((today + 30 * DAY_MS) / 1000, dt.UTC)
    assert {after[email].refresh_from for email in changed} == {due}


def _salts_version(ops: str) -> object:
    return httpx.get(f"{ops}/ops/status").json()["stores"]["salts"]["version"]


def _wait(condition: object, process: "subprocess.Popen[bytes]", log: Path) -> None:
    assert callable(condition)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if condition():
                return
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"not in time: {log.read_text()}")
