"""Two processes of the opt-out service that share a queue and a bucket, and nothing else."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

from cloud_stage import Cloud, members
from optout_stage import INTERNAL, KEY, STORES, parameters

from running_stack import command, free_offset
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import iter_entries

READY_SECONDS = 60


@dataclass(frozen=True)
class Machine:
    process: subprocess.Popen[bytes]
    offset: int
    log: Path

    def call(self, method: str, path: str, port: int = 8081, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {INTERNAL if port == 8082 else KEY}"}
        url = f"http://127.0.0.1:{port + self.offset}{path}"
        return httpx.request(method, url, headers=headers, timeout=40, **more)

    def replicate(self, n: int) -> int:
        return self.call("POST", "/optout/replicate", params=parameters(n)).status_code

    def tail(self, **query: str) -> dict[str, Any]:
        body: dict[str, Any] = self.call("GET", "/optout/tail", params=query).json()["body"]
        return body


@contextlib.contextmanager
def machine(folder: Path, **more: Any) -> Iterator[Machine]:
    """A running service, stopped at the end."""
    offset = free_offset(ports=(8081, 8082, 9081))
    folder.mkdir()
    shutil.copytree(STORES / "operators", folder / "stores/operators")
    file, log = folder / "optout.json", folder / "log"
    settings = {
        "environment": "development",
        "att_token_enc_key": "key",
        "att_token_enc_salt": "salt",
        "enforceJwt": False,
        "http_host": "127.0.0.1",
        "optout_internal_api_token": INTERNAL,
        "storage_mock_root": str(folder / "stores"),
        "optout_data_dir": str(folder / "data"),
        "optout_sqs_delta_window_seconds": 0,
    }
    file.write_text(json.dumps(settings | more))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("optout", "serve", "--config", str(file)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "port_offset": str(offset)},
        )
    running = Machine(process, offset, log)
    try:
        end = time.monotonic() + READY_SECONDS
        while not healthy(running):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield running
    finally:
        process.kill()
        process.wait()


def healthy(running: Machine) -> bool:
    try:
        return running.call("GET", "/ops/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_what_one_took_before_it_stopped_is_told_and_written_by_the_other(tmp_path: Path) -> None:
    cloud = Cloud()
    queue, bucket = cloud.queue(), cloud.bucket()
    settings = members(cloud, queue, bucket)
    with machine(tmp_path / "one", **settings) as one, machine(tmp_path / "two", **settings) as two:
        cursor = two.tail()["cursor"]
        assert [one.replicate(n) for n in range(30)] == [200] * 30
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) == 0, one.log.read_text()
        told: list[int] = []
        while len(told) < 30:
            page = two.tail(after=cursor, wait="20")
            assert page["entries"], f"only {len(told)} came"
            told += [int.from_bytes(base64.b64decode(e["identity_hash"])[:4], "big") for e in page["entries"]]
            cursor = page["cursor"]
        assert told == list(range(30))
        assert two.call("POST", "/optout/deltaproduce", 8082).status_code == 202
        while (state := two.call("GET", "/optout/deltaproduce/status", 8082).json())["state"] == "running":
            time.sleep(0.05)
        assert state["result"]["entries_processed"] == 30
    assert queue.messages == []
    found = cloud.s3.list_objects_v2(Bucket=bucket, Prefix="optout/delta/")["Contents"]
    data = b"".join(cloud.s3.get_object(Bucket=bucket, Key=part["Key"])["Body"].read() for part in found)
    entries = [entry for entry in iter_entries(data, Environment.TEST) if not entry.special]
    assert sorted(int.from_bytes(entry.identity_hash[:4], "big") for entry in entries) == list(range(30))
    cloud.stop()
