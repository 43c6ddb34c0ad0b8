"""The opt-out service as a client of Core, each a process of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_process import running_core

from running_stack import Stack, command, free_offset

PUBLIC = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
OPTOUT = "UID2-O-L-127-pDqphU.6FuXzThQMY8YEsCA8crqvAlzyGrjcF8P6XO84="
DISABLED = "UID2-O-L-998-d1sabledKeyForE2ETestOnly00000000000000000000="
WITHIN_SECONDS = 60
SPARE = 7


@dataclass(frozen=True)
class OptOutProcess:
    url: str
    ops_url: str
    log: Path
    process: subprocess.Popen[bytes]

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = httpx.get(f"{self.ops_url}/ops/status").json()
        return document

    def written(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def running_optout(folder: Path, offset: int, core_url: str, key: str = OPTOUT) -> Iterator[OptOutProcess]:
    """Started, not waited for; stopped at the end if it still runs."""
    (folder / "files").mkdir(parents=True)
    members = {
        "environment": "development",
        "http_host": "127.0.0.1",
        "core_attest_url": f"{core_url}/attest",
        "core_api_token": key,
        "partners_metadata_path": "/partners/refresh",
        "att_token_enc_key": "passphrase-canary",
        "att_token_enc_salt": "salt-canary",
        "optout_s3_bucket": f"file://{folder / 'files'}",
        "optout_data_dir": str(folder / "data"),
    }
    config, log = folder / "optout.json", folder / "optout.log"
    config.write_text(json.dumps(members))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("optout", "serve", "--config", str(config)),
            stderr=output,
            env={**os.environ, "port_offset": str(offset)},
        )
    url, ops_url = (f"http://127.0.0.1:{port + offset}" for port in (8081, 9081))
    try:
        yield OptOutProcess(url, ops_url, log, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(WITHIN_SECONDS)


def await_that(what: Callable[[], bool], said: Callable[[], str] = str) -> None:
    end = time.monotonic() + WITHIN_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if what():
                return
        assert time.monotonic() < end, said()
        time.sleep(0.05)


def accepts(url: str, key: str) -> bool:
    """Whether the key is known: a request that names no opt-out is then no good, and nothing is kept of it."""
    answer = httpx.post(f"{url}/optout/replicate", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code in (400, 401), answer.text
    return answer.status_code == 400


def test_the_service_of_the_stack_has_its_keys_from_core(stack: Stack) -> None:
    status = httpx.get(f"http://127.0.0.1:{9081 + stack.offset}/ops/status").json()
    assert (status["attestation"]["platform"], status["attestation"]["attested"]) == ("trusted", True)
    assert status["stores"]["operators"]["entries"] > 50
    assert status["stores"]["partners"]["problem"] is None
    config = json.loads((stack.state / f"optout-{stack.scope}" / "config.json").read_text())
    assert "storage_mock_root" not in config
    core_log = (stack.state / f"core-{stack.scope}" / "core.log").read_text()
    (verdict,) = [line for line in core_log.splitlines() if "attestation accepted: operator optout" in line]
    assert "protocol=trusted" in verdict


def test_a_key_that_is_disabled_at_core_is_refused(stack: Stack) -> None:
    key = json.loads((stack.state / f"stores-{stack.scope}" / "programs.json").read_text())["operators"][SPARE]
    url = stack.banner["optout"]
    assert accepts(url, key)
    folder = stack.state / f"stores-{stack.scope}" / "operators"
    records = json.loads((folder / "operators.json").read_text())
    for record in records:
        record["disabled"] = record["disabled"] or record["name"] == f"operator-{SPARE}"
    (folder / "operators.json").write_text(json.dumps(records))
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(metadata | {"version": metadata["version"] + 1}))
    await_that(lambda: not accepts(url, key))


def test_it_waits_for_core_goes_on_without_it_and_stops(tmp_path: Path) -> None:
    offset = free_offset()
    core_url = f"http://127.0.0.1:{8088 + offset}"
    with running_optout(tmp_path / "optout", offset, core_url) as optout:
        health = f"{optout.url}/ops/healthcheck"
        await_that(lambda: "core-attestation: Core could not be reached" in httpx.get(health).text, optout.written)
        assert httpx.get(health).status_code == 503
        assert httpx.get(f"{optout.ops_url}/ops/ready").status_code == 503
        assert httpx.post(f"{optout.url}/optout/replicate").status_code == 503
        with running_core(tmp_path / "core", offset=offset, enforceJwt=True):
            await_that(lambda: httpx.get(health).status_code == 200, optout.written)
            assert httpx.get(f"{optout.ops_url}/ops/ready").status_code == 200
            assert accepts(optout.url, PUBLIC)
            assert not accepts(optout.url, DISABLED)
            stores = optout.status()["stores"]
            assert (stores["operators"]["entries"], stores["partners"]["entries"]) == (9, 1)
        # Core is gone: the keys stay, and status says what is wrong.
        await_that(lambda: optout.status()["stores"]["operators"]["problem"] is not None, optout.written)
        assert accepts(optout.url, PUBLIC)
        status = optout.status()
        assert status["stores"]["operators"]["entries"] == 9
        assert status["attestation"]["failing_for_seconds"] is not None
        metrics = httpx.get(f"{optout.ops_url}/metrics").text
        assert "uid2_optout_core_failing_seconds" in metrics
        assert httpx.get(health).status_code == 200
        optout.process.send_signal(signal.SIGTERM)
        assert optout.process.wait(WITHIN_SECONDS) == 0
        for secret in (OPTOUT, "passphrase-canary"):
            assert secret not in optout.written() + metrics + json.dumps(status)


@pytest.mark.parametrize("stop", ["signal", "drain"])
def test_it_stops_while_core_hangs(tmp_path: Path, stop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_optout(tmp_path / "optout", free_offset(), url) as optout:
            # The call has arrived and is never answered.
            silent.settimeout(WITHIN_SECONDS)
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(4) == b"POST"
                if stop == "signal":
                    optout.process.send_signal(signal.SIGTERM)
                else:
                    assert httpx.post(f"{optout.ops_url}/ops/drain").status_code == 202
                # Nobody but the service itself closes this connection.
                while connection.recv(1 << 16):
                    pass
                assert optout.process.wait(WITHIN_SECONDS) == 0, optout.written()
    # It was ended, not waited for.
    assert "Core could not be reached: ReadTimeout" not in optout.written()


def test_a_refused_key_ends_it_with_exit_code_3(tmp_path: Path) -> None:
    offset = free_offset()
    with (
        running_core(tmp_path / "core", offset=offset) as core,
        running_optout(tmp_path / "optout", offset, core.url, DISABLED) as optout,
    ):
        assert optout.process.wait(WITHIN_SECONDS) == 3, optout.written()
    last = json.loads(optout.written().strip().splitlines()[-1])
    assert (last["exit_code"], "key_disabled" in last["message"]) == (3, True)
    assert "core_api_token" in last["next_step"]
    assert DISABLED not in optout.written()
