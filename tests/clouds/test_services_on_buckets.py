"""Core, the opt-out service and administration on buckets."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest
from admin_stage import Ticking, populate, registrable, settings
from cloud_servers import S3, Cloud
from core_process import running_core
from optout_stage import KEY, OptOut

from uid2.admin import salt_store
from uid2.admin.errors import ConflictError
from uid2.admin.folder import ABSENT, open_folder
from uid2.admin.records import SITES
from uid2.admin.sites import add_site
from uid2.admin.transaction import Universe
from uid2.admin.universe import initialise
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.running import RunningOperator
from uid2.operator.settings import settings_of
from uid2.optout.bucket import RenamingBucket, open_bucket
from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import iter_entries
from uid2.service.clock import SystemClock, SystemEntropy
from uid2.service.signed_urls import CloudUrls
from uid2.stores.sources.object_store import open_object_source

STORES = Path(__file__).parents[1] / "vectors" / "stores"


def test_a_bucket_of_opt_out_files(writable: Cloud) -> None:
    bucket = open_bucket(writable.url, {})
    bucket.put("optout/delta/a.dat", b"one")
    bucket.put("optout/delta/a.dat", b"two")
    bucket.put("/optout/partition/b.dat", b"three")
    assert bucket.list("optout/") == ["optout/delta/a.dat", "optout/partition/b.dat"]
    assert bucket.list("optout/delta/a") == ["optout/delta/a.dat"]
    assert bucket.read("optout/delta/a.dat") == b"two"
    old = RenamingBucket(bucket)
    old.put("optout/delta/c.dat", b"four")
    assert bucket.read("optout/log/c.dat") == b"four"
    assert old.list("optout/delta/") == ["optout/delta/c.dat"]
    for _ in range(2):
        bucket.delete("optout/delta/a.dat")
    absent = open_bucket(f"{writable.server.scheme}://nobody-has-this-bucket", {})
    for call in (lambda: absent.list("optout/"), lambda: absent.put("a", b"")):
        with pytest.raises(StoreUnavailableError, match="it is not there") as caught:
            call()
        assert "that the bucket exists" in caught.value.next_step
    with pytest.raises(StoreUnavailableError, match=r"cannot read optout/delta/a\.dat in .*: it is not there"):
        bucket.read("optout/delta/a.dat")


def test_a_signed_address_needs_no_credentials(writable: Cloud) -> None:
    writable.put("sites/sites.json", b"[]")
    urls = CloudUrls(writable.url, {}, 600)
    address = urls.sign("/sites/sites.json", "http://unused")
    answer = httpx.get(address, trust_env=False)
    assert (answer.status_code, answer.content) == (200, b"[]")


def test_a_put_notices_other_writers(writable: Cloud) -> None:
    folder = open_folder(writable.url)
    folder.put("sites/sites.json", b"first", ABSENT)
    with pytest.raises(ConflictError):
        folder.put("sites/sites.json", b"other", ABSENT)
    known = folder.read("sites/sites.json")
    assert known is not None
    folder.put("sites/sites.json", b"second", known.tag)
    with pytest.raises(ConflictError):
        folder.put("sites/sites.json", b"third", known.tag)
    latest = folder.read("sites/sites.json")
    assert latest is not None
    assert latest.data == b"second"
    folder.put("sites/sites.json", b"fourth")
    assert folder.list("sites/") == ["sites/sites.json"]
    for _ in range(2):
        folder.delete("sites/sites.json")
    assert folder.read("sites/sites.json") is None
    assert folder.list("sites/") == []


def test_a_universe_is_made_changed_and_loaded_from_a_bucket(writable: Cloud) -> None:
    clock = Ticking()
    universe = Universe(open_folder(writable.url), clock, random.Random(1).randbytes)
    universe.run(lambda change: initialise(change, settings(), 160))
    universe.run(populate)
    added = universe.run(lambda change: add_site(change, "Late", registrable=registrable)).result
    other = Universe(open_folder(writable.url), clock, random.Random(2).randbytes)
    assert "Late" in {site.name for site in other.look(lambda change: change.records(SITES))}
    clock.pass_days(1)
    other.run(salt_store.rebuild_salts)
    loaded = open_object_source(writable.url).list("")
    assert "sites/metadata.json" in loaded
    assert added.id > 2


def test_an_operator_behind_a_core_whose_stores_are_in_s3(s3: Cloud, tmp_path: Path) -> None:
    for file in sorted(STORES.rglob("*")):
        if file.is_file() and "operator-mock" not in file.parts:
            s3.put(file.relative_to(STORES).as_posix(), file.read_bytes())
    bucket = {"core_s3_bucket": s3.bucket, **s3.server.members()}
    with running_core(tmp_path, **bucket) as core:
        members = {"core_attest_url": f"{core.url}/attest", "core_api_token": KEY, "enable_remote_config": True}
        clock = SystemClock()
        for encrypted in (True, False):
            chosen = settings_of(members | {"encrypted_files": encrypted})
            operator = RunningOperator(chosen, clock, SystemEntropy(), OperatorMetrics(clock))
            operator.load()
            assert operator.stores.statuses["clients"].entries == 8
            assert operator.stores.statuses["salts"].entries == 4
            operator.close()
        assert "X-Amz-Signature" not in core.written()


def test_an_opt_out_service_whose_files_are_in_s3(s3: Cloud, tmp_path: Path) -> None:
    service = OptOut(tmp_path, optout_s3_bucket=s3.url, **s3.server.members())

    async def run() -> dict[str, str]:
        await service.start()
        assert (await service.replicate(7)).status_code == 200
        assert (await service.produce())["state"] == "completed"
        await service.context.files.refresh()
        answer = await service.http.get("/optout/refresh", headers={"Authorization": f"Bearer {KEY}"})
        service.worker.cancel()
        return {log["type"]: log["location"] for log in answer.json()["optout_logs"]}

    (address,) = asyncio.run(run()).values()
    assert address.startswith(f"{s3.server.url}/{s3.bucket}/optout/delta/")  # type: ignore[attr-defined]
    entries = iter_entries(httpx.get(address, trust_env=False).content, Environment.TEST)
    assert [entry.identity_hash[:4] for entry in entries if not entry.special] == [(7).to_bytes(4, "big")]


def test_refused_credentials_of_the_writers(s3: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(s3.server, S3)
    bad = s3.server.environ() | {"AWS_ACCESS_KEY_ID": "AKIACANARYCANARY"}
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    bucket, folder = open_bucket(s3.url, {}), open_folder(s3.url)
    with s3.server.asking_for_credentials():
        for call in (
            lambda: bucket.put("a", b""),
            lambda: bucket.list("optout/"),
            lambda: bucket.delete("a"),
            lambda: folder.read("a"),
            lambda: folder.put("a", b"", ABSENT),
            lambda: folder.list("a/"),
        ):
            with pytest.raises(StoreUnavailableError, match="the store refuses the credentials") as caught:
                call()
            assert "CANARY" not in caught.value.diagnosis()


@pytest.mark.parametrize("name", ["nothing://b", "az://container"])
def test_a_bucket_that_cannot_be_opened(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot open the bucket") as caught:
        open_bucket(name, {"region": "eu-west-1"})
    assert "az://" in caught.value.next_step
