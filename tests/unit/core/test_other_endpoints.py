import json
from collections.abc import Callable
from typing import Any

import pytest
from core_stage import DISABLED, GCP, OPTOUT, PRIVATE, PUBLIC, STORES, Core, members

from uid2.protocol.attestation_token import open_attestation_token


def test_cloud_keys_of_the_callers_site(core: Core) -> None:
    stored = json.loads((STORES / "cloud_encryption_keys/cloud_encryption_keys.json").read_bytes())
    wanted = [key for key in stored if key["siteId"] == 999]
    for key in (PUBLIC, PRIVATE):
        assert members(core.get("/cloud_encryption_keys/retrieve", key)) == {"cloud_encryption_keys": wanted}
    assert len(wanted) == 2


def moved(site: int | None) -> Callable[[list[dict[str, Any]]], None]:
    def change(records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["operator_type"] == "PRIVATE" and record["site_id"] == 999:
                record["site_id"] = site

    return change


def test_a_site_without_cloud_keys(start: Callable[..., Core]) -> None:
    response = start(operators=moved(5)).get("/cloud_encryption_keys/retrieve", PRIVATE)
    text = "No Cloud Encryption keys found"
    assert (response.status, members(response)) == (500, {"status": text, "message": f"{text} for siteId: 5"})


def test_cloud_keys_for_a_record_without_a_site(start: Callable[..., Core]) -> None:
    response = start(operators=moved(None)).get("/cloud_encryption_keys/retrieve", PRIVATE)
    wanted = {"status": "error", "message": "error generating attestation token"}
    assert (response.status, members(response)) == (500, wanted)


def test_cloud_keys_that_are_not_loaded(start: Callable[..., Core]) -> None:
    core = start(load=False)
    (core.bucket / "cloud_encryption_keys/metadata.json").unlink()
    core.load()
    assert core.get("/cloud_encryption_keys/retrieve", PUBLIC).status == 503
    assert core.health.response().status == 503
    assert core.health.response().body.startswith(b"cloud_encryption_keys-rotator: ")


def test_the_operator_configuration(core: Core) -> None:
    response = core.get("/operator/config", PUBLIC)
    stored = json.loads((STORES / "operator/operator-config.json").read_bytes())
    assert members(response) == stored
    assert response.body.startswith(b'{\n  "version"')
    file = core.bucket / "operator/operator-config.json"
    file.write_text(json.dumps(stored | {"version": 7}))
    assert members(core.get("/operator/config", PUBLIC))["version"] == 7
    file.write_text("[")
    response = core.get("/operator/config", PUBLIC)
    assert (response.status, response.content_type) == (500, "text/plain")
    assert response.body.startswith(b"Failed to parse configuration: ")
    file.unlink()
    response = core.get("/operator/config", PUBLIC)
    assert (response.status, response.content_type) == (500, "text/plain")
    assert response.body.startswith(b"Failed to retrieve configuration: ")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_token_for_tests(start: Callable[..., Core], method: str) -> None:
    core = start(enable_test_endpoints=True)
    response = core.call(method, "/attest/get_token", GCP)
    body = members(response)
    assert body.keys() == {"status", "body"}
    assert body["body"].keys() == {"attestation_token"}
    open_attestation_token(body["body"]["attestation_token"], core.context.token_key, GCP, core.context.now())
    assert core.call(method, "/attest/get_token", OPTOUT).status == 401
    assert core.call(method, "/attest/get_token", DISABLED).status == 401


def test_there_is_no_token_for_tests_by_default(core: Core) -> None:
    assert core.get("/attest/get_token", PUBLIC).status == 404


@pytest.mark.parametrize("path", ["/", "/nothing", "/enclaves/refresh", "/sites", "/attest/other"])
def test_undefined_paths(core: Core, path: str) -> None:
    response = core.get(path, PUBLIC)
    assert (response.status, response.body) == (404, b"<html><body><h1>Resource not found</h1></body></html>")
    assert response.content_type == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/attest"), ("POST", "/sites/refresh"), ("PUT", "/operator/config"), ("GET", "/attest/challenge")],
)
def test_wrong_methods(core: Core, method: str, path: str) -> None:
    response = core.call(method, path, PUBLIC)
    assert (response.status, response.body) == (405, b"")


@pytest.mark.parametrize("path", ["/ops/healthcheck", "/sites/refresh", "/nothing"])
def test_multipart_is_for_methods_with_a_body(core: Core, path: str) -> None:
    for kind in ("multipart/form-data; boundary=x", "Multipart/mixed"):
        response = core.call("GET", path, headers={"content-type": kind})
        assert (response.status, response.body) == (400, b'Content-Type "multipart/*" Not Allowed"')
    kind = "multipart/form-data; boundary=x"
    response = core.call("POST", "/attest", PUBLIC, body=b"--x", headers={"content-type": kind})
    assert members(response) == {"status": "no attestation_request attached"}


@pytest.mark.parametrize(("path", "method"), [("/attest", "POST"), ("/sites/refresh", "GET"), ("/attest", "PUT")])
def test_bodies_above_ten_megabytes(core: Core, path: str, method: str) -> None:
    wanted = 405 if method == "PUT" else 413
    assert core.call(method, path, PUBLIC, body=bytes((10 << 20) + 1)).status == wanted
    assert core.call(method, path, PUBLIC, body=bytes(10 << 20)).status in (200, 400, 405)


def test_cross_origin_rules(core: Core) -> None:
    origin = {"origin": "https://anyone.example"}
    preflight = core.call("OPTIONS", "/attest", headers=origin | {"access-control-request-method": "POST"})
    fields = dict(preflight.headers)
    assert preflight.status == 204
    assert fields["access-control-allow-methods"] == "GET,POST,OPTIONS"
    assert fields["access-control-allow-headers"] == (
        "Access-Control-Request-Method,Access-Control-Allow-Credentials,"
        "Access-Control-Allow-Origin,Access-Control-Allow-Headers,Content-Type"
    )
    refused = core.call("GET", "/sites/refresh", headers=origin)
    assert dict(refused.headers)["access-control-allow-origin"] == "https://anyone.example"


def test_health_names_what_is_missing(start: Callable[..., Core]) -> None:
    core = start(load=False)
    assert core.health.response().body.splitlines() == [
        b"operators-rotator: still starting",
        b"enclaves-rotator: still starting",
        b"cloud_encryption_keys-rotator: still starting",
    ]
    core.load()
    response = core.get("/ops/healthcheck")
    assert (response.status, response.body) == (200, b"OK")


def test_requests_are_counted(core: Core) -> None:
    core.call("GET", "/clients/refresh", PUBLIC, headers={"X-UID2-AppVersion": "uid2-operator=5.7;uid2-shared=1"})
    core.get("/clients/refresh", PUBLIC)
    core.get("/nothing")
    text = core.metrics.render().decode()
    assert (
        'uid2_http_requests_total{api_contact="Special",application="uid2-core",host="called:8088",method="GET",'
        'path="/clients/refresh",site_id="999",site_name="unknown",status="200"} 2.0'
    ) in text
    assert 'path="unknown",site_id="null",site_name="unknown",status="404"} 1.0' in text
    assert 'client_name="uid2-operator",client_version="5.7"} 1.0' in text
    assert 'uid2_cache_total_count_total{application="uid2-core",cache="apikeyindex"} 2.0' in text
    assert 'uid2_cache_miss_count_total{application="uid2-core",cache="apikeyindex"} 1.0' in text
    assert 'uid2_config_store_entry_count{application="uid2-core",store="operators"} 9.0' in text


def test_every_answer_tells_the_time(core: Core) -> None:
    for path in ("/ops/healthcheck", "/nothing", "/clients/refresh"):
        assert ("date", "Sun, 15 Jun 2025 15:06:40 GMT") in core.get(path).headers
