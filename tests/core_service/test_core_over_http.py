"""Core over real sockets: what a process adds to the handlers."""

import json
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from core_process import STORES, CoreProcess, running_core
from cryptography.hazmat.primitives.asymmetric import rsa

from running_stack import command
from uid2.protocol.attest_messages import (
    AttestRequest,
    encode_attest_request,
    parse_attest_response,
    parse_challenge,
)
from uid2.protocol.crypto.rsa import public_der, unwrap

PUBLIC = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
NITRO = "UID2-O-L-124-aws-operator-key"
OPTOUT = "UID2-O-L-127-pDqphU.6FuXzThQMY8YEsCA8crqvAlzyGrjcF8P6XO84="
KEY = rsa.generate_private_key(65537, 2048)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_an_operator_attests_and_fetches_its_stores(core: CoreProcess) -> None:
    body = encode_attest_request(AttestRequest(b"\0", public_der(KEY), "uid2-operator", "5.70.250", "public"))
    response = httpx.post(f"{core.url}/attest", content=body, headers=bearer(PUBLIC))
    assert response.headers["content-type"] == "application/json"
    answer = parse_attest_response(response.content)
    token = unwrap(KEY, answer.attestation_token).decode()
    assert answer.jwt_core is not None
    headers = bearer(PUBLIC) | {"Attestation-Token": token, "Attestation-JWT": answer.jwt_core}
    metadata = httpx.get(f"{core.url}/clients/refresh", headers=headers).json()
    # The address is a credential by itself: no header goes along.
    content = httpx.get(metadata["client_keys"]["location"])
    assert content.content == (STORES / "clients/clients.json").read_bytes()
    written = core.written()
    assert "attestation accepted: operator Special (UID2-O-L-999-dp9Dt) protocol=trusted" in written
    for secret in (PUBLIC, token, answer.jwt_core, urlsplit(metadata["client_keys"]["location"]).query):
        assert secret not in written
    assert "canary" not in written


def test_the_opt_out_service_reads_its_stores(core: CoreProcess) -> None:
    for store in ("operators", "partners"):
        metadata = httpx.get(f"{core.url}/{store}/refresh", headers=bearer(OPTOUT)).json()
        content = httpx.get(metadata[store]["location"])
        assert content.content == (STORES / store / f"{store}.json").read_bytes()


def test_a_challenge(core: CoreProcess) -> None:
    first, second = (
        parse_challenge(httpx.post(f"{core.url}/attest/challenge", headers=bearer(NITRO)).content) for _ in range(2)
    )
    assert first.nonce != second.nonce


def test_a_protocol_that_is_not_served_is_named_in_the_log(core: CoreProcess) -> None:
    body = encode_attest_request(AttestRequest(b"\0", public_der(KEY)))
    response = httpx.post(f"{core.url}/attest", content=body, headers=bearer(NITRO))
    assert (response.status_code, response.json()["status"]) == (403, "protocol not found")
    assert "protocol 'aws-nitro' is not served here" in core.written()


def test_a_quote_of_sixteen_megabytes(core: CoreProcess) -> None:
    """Announced or not, it is cut off at the limit."""

    def chunks() -> object:
        for _ in range(16):
            yield b"A" * (1 << 20)

    for content in (b"A" * (16 << 20), chunks()):
        try:
            response = httpx.post(f"{core.url}/attest", content=content, headers=bearer(PUBLIC), timeout=30)  # type: ignore[arg-type]
        except httpx.WriteError:
            continue  # the answer went out and the connection closed before everything was sent
        assert response.status_code == 413
    assert httpx.get(f"{core.url}/ops/healthcheck").text == "OK"


def test_an_announced_length_is_refused_before_the_body(core: CoreProcess) -> None:
    parts = urlsplit(core.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        head = f"POST /attest HTTP/1.1\r\nHost: x\r\nContent-Length: {16 << 20}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nothing", 404, "<html><body><h1>Resource not found</h1></body></html>"),
        ("GET", "/attest", 405, ""),
        ("DELETE", "/sites/refresh", 405, ""),
        ("GET", "/ops/healthcheck", 200, "OK"),
    ],
)
def test_paths_and_methods(core: CoreProcess, method: str, path: str, status: int, text: str) -> None:
    response = httpx.request(method, core.url + path)
    assert (response.status_code, response.text) == (status, text)
    assert "server" not in response.headers


def test_the_listener_for_operations(core: CoreProcess) -> None:
    status = httpx.get(f"{core.ops_url}/ops/status").json()
    assert (status["ready"], status["missing"], status["environment"]) == (True, [], "development")
    assert "trusted" in status["protocols"]
    metrics = httpx.get(f"{core.ops_url}/metrics").text
    assert 'uid2_component_health{application="uid2-core",component="operators-rotator"} 1.0' in metrics
    assert 'app_status{application="uid2-core",version="unknown"} 1.0' in metrics
    assert httpx.get(f"{core.ops_url}/attest").status_code == 404


def test_core_without_its_stores_listens_and_says_what_is_missing(tmp_path: Path) -> None:
    with running_core(tmp_path, broken=("operators", "enclaves")) as core:
        health = httpx.get(f"{core.url}/ops/healthcheck")
        assert health.status_code == 503
        assert [line.partition(":")[0] for line in health.text.splitlines()] == [
            "operators-rotator",
            "enclaves-rotator",
        ]
        body = encode_attest_request(AttestRequest(b"\0", public_der(KEY)))
        response = httpx.post(f"{core.url}/attest", content=body, headers=bearer(PUBLIC))
        assert (response.status_code, response.json()["reason_code"]) == (503, "not_ready")
        core.process.send_signal(signal.SIGTERM)
        assert core.process.wait(20) == 0


def test_a_bad_configuration_ends_with_2_and_the_next_step(tmp_path: Path) -> None:
    file = tmp_path / "core.json"
    file.write_text(
        json.dumps(
            {
                "core_s3_bucket": "x",
                "att_token_enc_key": "k",
                "att_token_enc_salt": "s",
                "environment": "prod",
                "core_public_url": "http://core",
            }
        )
    )
    ended = subprocess.run(command("core", "serve", "--config", str(file)), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    last = json.loads(ended.stderr.splitlines()[-1])
    assert "core_public_url must begin with https://" in last["message"]
    assert last["next_step"] == "give core_public_url an https address"
