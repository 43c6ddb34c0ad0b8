"""`uid2 quote verify` against a running development stack, and against servers that deceive."""

import contextlib
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from running_stack import Stack, command
from uid2.attestation.binding import report_data_v1, report_data_v2
from uid2.protocol.encoding import encode_base64

OTHER_NONCE = bytes(range(32))


def quote(*words: str) -> subprocess.CompletedProcess[str]:
    """Asks again while the operator says that it has just made evidence for the test before."""
    for _ in range(20):
        result = subprocess.run(command("quote", *words), capture_output=True, text=True, timeout=120, check=False)
        if "answered 429" not in result.stderr:
            break
        time.sleep(0.5)
    return result


def trust(stack: Stack) -> tuple[str, ...]:
    core = stack.state / f"core-{stack.scope}"
    collateral = json.loads((core / "config.json").read_text())["attestation_collateral_url"]
    return ("--collateral-url", collateral, "--dangerous-root", str(core / "simulated_root.pem"))


def record(stack: Stack) -> Path:
    return stack.state / f"operator-{stack.scope}-0" / "identity.json"


def evidence(stack: Stack, nonce: bytes) -> dict[str, Any]:
    for _ in range(20):
        answer = httpx.post(f"{stack.ops_url}/ops/evidence", json={"nonce": encode_base64(nonce)}, timeout=30)
        if answer.status_code != 429:
            break
        time.sleep(0.5)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@contextlib.contextmanager
def deceiver(answer_to: Callable[[str], dict[str, Any]]) -> Iterator[str]:
    """A server that answers with what `answer_to` makes of the nonce it was asked with."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(answer_to(asked["nonce"])).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of the library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def refused(result: subprocess.CompletedProcess[str], words: str) -> None:
    assert result.returncode == 1, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert words in result.stderr
    assert "next step" in result.stderr


def test_the_operator_of_the_stack_is_the_recorded_one(stack: Stack) -> None:
    short = quote("verify", "--state", str(stack.state))
    full = quote("verify", "--url", stack.ops_url, "--record", str(record(stack)), *trust(stack))
    for result in (short, full):
        assert result.returncode == 0, result.stderr
        assert len(result.stdout.splitlines()) == 10
        assert "root=TEST" in result.stdout
        assert json.loads(record(stack).read_text())["mr_enclave"] in result.stdout
    assert short.stdout == full.stdout


def test_a_changed_record_is_refused(stack: Stack, tmp_path: Path) -> None:
    members = json.loads(record(stack).read_text())
    for change, words in (({"mr_enclave": "50" * 32}, "MRENCLAVE"), ({"comment": "x"}, "another record")):
        changed = tmp_path / "identity.json"
        changed.write_text(json.dumps(members | change))
        refused(quote("verify", "--state", str(stack.state), "--record", str(changed)), words)


def test_a_replayed_answer_is_refused(stack: Stack) -> None:
    recorded = evidence(stack, OTHER_NONCE)
    with deceiver(lambda _: recorded) as url:
        refused(quote("verify", "--state", str(stack.state), "--url", url), "another nonce")
    with deceiver(lambda nonce: recorded | {"body": recorded["body"] | {"nonce": nonce}}) as url:
        refused(quote("verify", "--state", str(stack.state), "--url", url), "replay")


@pytest.mark.parametrize("version", [1, 2])
def test_a_quote_for_attest_is_no_evidence(stack: Stack, tmp_path: Path, version: int) -> None:
    key = hashlib.sha256(b"any key").digest()
    data = report_data_v1(key) if version == 1 else report_data_v2(key, OTHER_NONCE, stack.banner["core"])
    file = tmp_path / "attest.quote"
    made = quote("make", data.hex(), "--state", str(stack.state), "--output", str(file))
    assert made.returncode == 0, made.stderr
    assert "root=TEST" in quote("show", str(file)).stdout
    genuine = evidence(stack, OTHER_NONCE)["body"]

    def answer(nonce: str) -> dict[str, Any]:
        return {"status": "success", "body": genuine | {"nonce": nonce, "quote": encode_base64(file.read_bytes())}}

    with deceiver(answer) as url:
        refused(quote("verify", "--state", str(stack.state), "--url", url), "a quote from /attest")


def test_without_the_named_root_the_stack_proves_nothing(stack: Stack) -> None:
    refused(quote("verify", "--url", stack.ops_url, "--record", str(record(stack))), "test_root")
