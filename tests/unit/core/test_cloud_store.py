"""Core on a bucket of S3: the same endpoints, addresses that the bucket's own host accepts."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from core_stage import PUBLIC, STORES, Core, ScriptedVerifier, members


class Bucket(BaseHTTPRequestHandler):
    """Path-style reads of the sample stores. A request is signed by header or by query."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        signed = "Authorization" in self.headers or "X-Amz-Signature" in query
        file = STORES / unquote(parts.path).removeprefix("/stores/")
        found = signed and parts.path.startswith("/stores/") and file.is_file()
        body = file.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.send_header("last-modified", "Sun, 15 Jun 2025 15:06:40 GMT")
        self.send_header("etag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in its class
        """Nothing: the test reads answers, not a log."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_metadata_name_addresses_of_the_bucket(tmp_path: Path, endpoint: str) -> None:
    core = Core(
        tmp_path,
        ScriptedVerifier(),
        core_s3_bucket="stores",
        aws_s3_endpoint=endpoint,
        aws_region="us-east-2",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret-of-the-bucket",
        pre_signed_url_expiry=90,
    )
    core.load()
    assert core.health.response().status == 200
    address = members(core.get("/clients/refresh", PUBLIC))["client_keys"]["location"]
    assert address.startswith(f"{endpoint}/stores/clients/clients.json?")
    assert dict(parse_qsl(urlsplit(address).query))["X-Amz-Expires"] == "90"
    assert httpx.get(address).content == (STORES / "clients/clients.json").read_bytes()
    assert core.call("GET", "/files/clients/clients.json").status == 404


def test_a_bucket_that_is_down(tmp_path: Path) -> None:
    core = Core(
        tmp_path,
        ScriptedVerifier(),
        core_s3_bucket="stores",
        aws_s3_endpoint="http://127.0.0.1:1",
        aws_region="us-east-2",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret-of-the-bucket",
    )
    core.load()
    assert core.get("/clients/refresh", PUBLIC).status == 503
    assert core.health.response().body.startswith(b"operators-rotator: cannot read operators/metadata.json")
