import asyncio
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds
from uid2.service.messages import Request, Response
from uid2.service.signed_urls import CloudUrls, FileLinks
from uid2.stores.sources.local import LocalSource

CREDENTIALS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret-of-the-bucket", "region": "us-east-2"}


class Links:
    def __init__(self, root: Path) -> None:
        self.now = 1000
        self.links = FileLinks(b"k" * 32, LocalSource(root), 60, lambda: EpochSeconds(self.now))
        (root / "a").mkdir()
        (root / "a/b c+ü.json").write_bytes(b"content")

    def fetch(self, address: str, **query: str) -> Response:
        parts = urlsplit(address)
        request = Request("GET", parts.path, dict(parse_qsl(parts.query)) | query)
        return asyncio.run(self.links.serve(request))


@pytest.fixture
def links(tmp_path: Path) -> Links:
    return Links(tmp_path)


@pytest.mark.parametrize("path", ["a/b c+ü.json", "/a/b c+ü.json"])
def test_an_address_gives_its_file_for_a_while(links: Links, path: str) -> None:
    address = links.links.sign(path, "http://core:8088/")
    assert address.startswith("http://core:8088/files/a/b%20c%2B%C3%BC.json?expires=1060&signature=")
    for moment, status in ((1000, 200), (1059, 200), (1060, 403)):
        links.now = moment
        assert links.fetch(address).status == status
    links.now = 1000
    assert links.fetch(address).body == b"content"


def test_changed_addresses_are_refused(links: Links) -> None:
    address = links.links.sign("a/x", "")
    assert links.fetch(address).status == 404
    assert links.fetch(address.replace("/a/x", "/a/y")).status == 403
    for query in ({"expires": "1061"}, {"expires": ""}, {"signature": ""}, {"signature": "?"}, {"signature": "AAAA"}):
        assert links.fetch(address, **query).status == 403
    signature = dict(parse_qsl(urlsplit(address).query))["signature"]
    for at in range(len(signature) - 1):
        other = "A" if signature[at] != "A" else "B"
        assert links.fetch(address, signature=signature[:at] + other + signature[at + 1 :]).status == 403


def test_an_address_never_leaves_the_folder(links: Links) -> None:
    response = links.fetch(links.links.sign("../outside", ""))
    assert response.status == 404


@pytest.mark.parametrize(
    ("bucket", "options", "host"),
    [
        ("bucket", CREDENTIALS, "us-east-2.amazonaws.com"),
        ("s3://bucket", CREDENTIALS | {"endpoint": "http://localhost:4566"}, "localhost:4566"),
        (
            "az://container",
            {"account_name": "account", "account_key": "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5"},
            "account.blob.core.windows.net",
        ),
    ],
)
def test_clouds_sign_without_a_network(bucket: str, options: dict[str, str], host: str) -> None:
    address = CloudUrls(bucket, options, 1800).sign("/clients/clients.json", "http://core")
    parts = urlsplit(address)
    assert parts.netloc.endswith(host)
    assert parts.path.endswith("/clients/clients.json")
    assert "secret-of-the-bucket" not in address
    if "X-Amz" in address:
        query = dict(parse_qsl(parts.query))
        assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "1800")


@pytest.mark.parametrize("bucket", ["memory://x", "https://example.com/x", "pigeon://x"])
def test_buckets_that_cannot_sign(bucket: str) -> None:
    with pytest.raises(ConfigurationError):
        CloudUrls(bucket, {}, 60)
