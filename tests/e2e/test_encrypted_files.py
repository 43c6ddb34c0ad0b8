"""Operators on the encrypted files of their site, as administration writes them, through a Core process; a cloud
encryption key is rotated while they run."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_process import CoreProcess, running_core
from typer.testing import CliRunner
from uid2_client import IdentityMapV3Client, IdentityMapV3Input, TokenGenerateInput, Uid2PublisherClient

from running_stack import command, free_offset
from uid2.admin.clients import IssuedClient, add_client
from uid2.admin.generated_files import sync_encrypted_files
from uid2.admin.local_folder import LocalFolder
from uid2.admin.transaction import Universe
from uid2.cli.main import app
from uid2.protocol.ids import EpochMillis, Role

JWT_KEY = Path(__file__).parents[1] / "vectors/stores/jwt/jwt_signing_private_key.pem"
# Core reads its cloud encryption keys once a minute.
SECONDS = 150
HOUR_MS = 3_600_000
EMAIL = "reader@example.com"


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


@dataclass
class Operator:
    process: subprocess.Popen[bytes]
    offset: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{8080 + self.offset}"

    def ops(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{9080 + self.offset}{path}", trust_env=False, timeout=20)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.ops("/ops/ready").status_code == 200
        return False

    def decryptions(self, key_id: int, status: str) -> float:
        wanted = ("uid2_cloud_decryption_runs_total{", f'key_id="{key_id}"', f'status="{status}"')
        lines = self.ops("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))

    def maps(self, client: dict[str, Any]) -> bool:
        sdk = IdentityMapV3Client(self.url, client["key"], client["secret"])
        mapped = sdk.generate_identity_map(IdentityMapV3Input.from_emails([EMAIL])).mapped_identities
        return bool(mapped[EMAIL].current_raw_uid)

    def generates(self, client: dict[str, Any]) -> bool:
        sdk = Uid2PublisherClient(self.url, client["key"], client["secret"])
        answer = sdk.generate_token(TokenGenerateInput.from_email(EMAIL))
        return bool(answer.get_identity().get_advertising_token())

    def knows(self, client: dict[str, Any]) -> bool:
        """Whether the key is one of this operator's: an empty body is refused in another way than a foreign key."""
        headers = {"authorization": f"Bearer {client['key']}"}
        return httpx.post(f"{self.url}/v2/token/generate", headers=headers, trust_env=False).status_code != 401


@contextlib.contextmanager
def running_operator(folder: Path, core: CoreProcess, kind: str, key: str) -> Iterator[Operator]:
    config, log, offset = folder / f"{kind}.json", folder / f"{kind}.log", free_offset()
    members = {
        "environment": "development",
        "core_attest_url": f"{core.url}/attest",
        "core_api_token": key,
        "operator_type": kind,
        "encrypted_files": True,
        "enable_remote_config": True,
        "http_host": "127.0.0.1",
        "worker_processes": 1,
        **{f"{store}_refresh_ms": 500 for store in ("auth", "keyset", "keysetkey", "salt", "cloud_encryption_keys")},
    }
    config.write_text(json.dumps(members))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("operator", "serve", "--config", str(config)),
            stderr=output,
            env={**os.environ, "port_offset": str(offset)},
        )
    operator = Operator(process, offset, log)
    try:
        until(operator.ready, log.read_text)
        yield operator
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


class Admin:
    """`uid2 admin` on a folder; `later` is an administrator whose clock is ahead."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.store = store
        self._variables = {"UID2_STORE": f"file://{store}", "UID2_LOG_KEY": str(folder / "log.pem")}

    def __call__(self, *words: str) -> Any:
        result = CliRunner().invoke(app, ["admin", "--json", *words], env=self._variables)
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    def later(self, milliseconds: int) -> Universe:
        def now() -> EpochMillis:
            return EpochMillis(time.time_ns() // 1_000_000 + milliseconds)

        return Universe(LocalFolder(self.store), now, random.Random(1).randbytes)


@pytest.mark.slow
def test_private_and_public_operators_serve_from_encrypted_files(tmp_path: Path) -> None:
    admin = Admin(tmp_path / "universe", tmp_path)
    admin("init", "--salts", "64", "--environment", "development")
    sites = [admin("site", "add", name, "--types", "PUBLISHER")["id"] for name in ("Own", "Other")]
    own, other = (
        admin("client", "add", f"web-{site}", "--site", str(site), "--roles", "GENERATOR,MAPPER") for site in sites
    )
    keys = {
        kind: admin("operator", "add", kind, "--site", str(site), "--type", kind, "--protocol", "trusted")["key"]
        for kind, site in (("private", sites[0]), ("public", sites[1]))
    }
    admin("files", "refresh-private-sites")
    admin("files", "sync-encrypted")

    def put_in_place(bucket: Path) -> None:
        shutil.rmtree(bucket)
        shutil.copytree(admin.store, bucket)
        admin.store = bucket
        admin._variables["UID2_STORE"] = f"file://{bucket}"

    core_settings = {"jwt_signing_key_file": str(JWT_KEY), "provide_private_site_data": True, "enforceJwt": True}
    with (
        running_core(tmp_path, prepare=put_in_place, **core_settings) as core,
        running_operator(tmp_path, core, "private", keys["private"]) as private,
        running_operator(tmp_path, core, "public", keys["public"]) as public,
    ):
        for operator in (private, public):
            assert operator.maps(own)
            assert operator.generates(own)
        assert public.maps(other)
        # The other site's clients are in none of the private operator's files.
        assert not private.knows(other)
        old = {key["site"]: key["id"] for key in admin("cloud-key", "list")}
        assert private.decryptions(old[sites[0]], "SUCCESS") >= 4
        assert public.decryptions(old[sites[1]], "SUCCESS") >= 4

        rotated = {key["site"]: key["id"] for key in admin("cloud-key", "rotate")}
        # An hour on, files are written with the new keys, one of them with a new client in it.
        hour_later = admin.later(HOUR_MS + 60_000)
        issued: IssuedClient = hour_later.run(
            lambda change: add_client(change, "late", sites[0], [Role.GENERATOR, Role.MAPPER])
        ).result
        hour_later.run(sync_encrypted_files)
        late = {"key": issued.key, "secret": issued.secret}
        for operator, site in ((private, sites[0]), (public, sites[1])):
            assert rotated[site] != old[site]
            until(lambda: operator.knows(late), operator.log.read_text)  # noqa: B023 - it is called here
            assert operator.maps(late)
            assert operator.maps(own)
            assert operator.decryptions(rotated[site], "SUCCESS") >= 1
            assert operator.decryptions(old[site], "INTERNAL_DECRYPTION_FAILURE") == 0
            # Until Core had read the new keys the old data stayed in use; health never changed.
            assert operator.ops("/ops/healthcheck").text == "OK"
            written = operator.log.read_text()
            for secret in (late["key"], late["secret"], own["secret"], "signature="):
                assert secret not in written
