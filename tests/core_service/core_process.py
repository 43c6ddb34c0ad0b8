"""Core as a process of its own: `uid2 core serve` on ports nobody uses, on a copy of the sample stores."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from running_stack import command, free_offset

STORES = Path(__file__).parents[1] / "vectors/stores"
READY_SECONDS = 30
PORTS = (8088, 9088)


@dataclass(frozen=True)
class CoreProcess:
    url: str
    ops_url: str
    bucket: Path
    log: Path
    process: subprocess.Popen[bytes]

    def written(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def running_core(
    folder: Path,
    *,
    broken: tuple[str, ...] = (),
    prepare: Callable[[Path], None] = lambda _: None,
    offset: int | None = None,
    **settings: Any,
) -> Iterator[CoreProcess]:
    """Start, wait until the service port answers, yield, stop.

    `broken` stores have no metadata; `prepare` may change the bucket before the start. `offset`: that of the ports.
    """
    bucket = folder / "bucket"
    shutil.copytree(STORES, bucket, ignore=shutil.ignore_patterns("operator-mock"))
    for store in broken:
        (bucket / store / "metadata.json").unlink()
    prepare(bucket)
    offset = free_offset(ports=PORTS) if offset is None else offset
    url = f"http://127.0.0.1:{8088 + offset}"
    members = {
        "core_s3_bucket": f"file://{bucket}",
        "att_token_enc_key": "passphrase-canary",
        "att_token_enc_salt": "salt-canary",
        "core_public_url": url,
        "optout_url": "http://127.0.0.1:1",
        "jwt_signing_key_file": str(bucket / "jwt/jwt_signing_private_key.pem"),
        "http_host": "127.0.0.1",
        "environment": "development",
    } | settings
    file = folder / "core.json"
    file.write_text(json.dumps(members))
    log = folder / "core.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("core", "serve", "--config", str(file)),
            stderr=output,
            env={**os.environ, "port_offset": str(offset)},
        )
    core = CoreProcess(url, f"http://127.0.0.1:{9088 + offset}", bucket, log, process)
    try:
        _wait(core)
        yield core
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wait(core: CoreProcess) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if core.process.poll() is not None:
            raise AssertionError(f"core ended: {core.written()}")
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{core.url}/ops/healthcheck")
            return
        time.sleep(0.05)
    raise AssertionError(f"core does not answer: {core.written()}")
