import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.stores.sources.base import BlobSource
from uid2.stores.sources.local import LocalSource
from uid2.stores.sources.mock import MockSource
from uid2.stores.sources.object_store import bucket_url, open_object_source
from uid2.stores.sources.presigned import PresignedSource

SECRET_QUERY = "X-Amz-Signature=abcdef"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("optout/delta/b.dat", "optout/delta/a.dat", "optout/partition/c.dat", "optout-v2/d.dat"):
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    (tmp_path / "outside").write_bytes(b"outside")
    return tmp_path / "root"


@pytest.fixture(params=["local", "mock", "object"])
def source(request: pytest.FixtureRequest, root: Path) -> BlobSource:
    if request.param == "local":
        return LocalSource(root)
    return MockSource(root) if request.param == "mock" else open_object_source(f"file://{root}")


def test_reads_and_lists(source: BlobSource) -> None:
    assert source.read("optout/delta/a.dat") == b"optout/delta/a.dat"
    assert source.list("optout/delta/") == ["optout/delta/a.dat", "optout/delta/b.dat"]
    assert source.list("optout/") == ["optout/delta/a.dat", "optout/delta/b.dat", "optout/partition/c.dat"]
    assert source.list("nothing/") == []


def test_refusals_name_the_path(source: BlobSource) -> None:
    with pytest.raises(StoreUnavailableError, match="missing") as raised:
        source.read("missing")
    assert raised.value.next_step
    with pytest.raises(StoreUnavailableError, match="larger than 3"):
        source.read("optout/delta/a.dat", 3)
    with pytest.raises(StoreUnavailableError):
        source.read("../outside")


def test_no_link_leads_out(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    with pytest.raises(StoreUnavailableError, match="outside"):
        LocalSource(root).read("link")


def test_links_that_lead_nowhere_or_to_themselves_are_not_listed(root: Path) -> None:
    before = LocalSource(root).list("")
    (root / "nowhere").symlink_to("not there")
    (root / "loop").symlink_to("loop")
    (root / "to a file").symlink_to(root / before[0])
    assert LocalSource(root).list("") == sorted([*before, "to a file"])


def test_a_folder_that_may_not_be_read_is_named_and_not_taken_for_an_empty_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rights do not bind the superuser, as whom tests may run.
    scan = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("/partition"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StoreUnavailableError, match="cannot list optout/: Permission denied") as raised:
        LocalSource(root).list("optout/")
    assert str(root / "optout/partition") in raised.value.next_step


def test_mock_paths_keep_their_slash(root: Path) -> None:
    assert MockSource(root).read("/optout/delta/a.dat") == b"optout/delta/a.dat"
    assert MockSource(root).list("/optout/partition/") == ["/optout/partition/c.dat"]


def test_buckets() -> None:
    assert bucket_url("plain") == "s3://plain"
    assert bucket_url("gs://b") == "gs://b"
    with pytest.raises(ConfigurationError):
        open_object_source("nothing://b")


@pytest.mark.parametrize(("status", "body"), [(200, b"abc"), (206, b"abc")])
def test_presigned_content(status: int, body: bytes) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, content=body)

    source = PresignedSource(httpx.MockTransport(answer))
    assert source.read(f"https://bucket.example/clients.json?{SECRET_QUERY}") == body
    assert "authorization" not in seen[0].headers
    with pytest.raises(StoreUnavailableError, match="larger"):
        source.read(f"https://bucket.example/clients.json?{SECRET_QUERY}", 2)


def test_presigned_failures_hide_the_signature() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/down":
            raise httpx.ConnectError(str(request.url))
        return httpx.Response(403)

    source = PresignedSource(httpx.MockTransport(fail))
    for path, text in (("/gone", "HTTP response code 403"), ("/down", "ConnectError")):
        with pytest.raises(StoreUnavailableError, match=text) as raised:
            source.read(f"https://bucket.example{path}?{SECRET_QUERY}")
        assert "Signature" not in raised.value.diagnosis()
