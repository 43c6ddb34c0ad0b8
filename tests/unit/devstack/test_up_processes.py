"""Starting, watching and stopping children, with a small program in the place of the operator."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

STAND_IN = """
import http.server, os, sys, threading
service = sys.argv[1]
offset = int(os.environ["port_offset"]) + {"core": 8, "optout": 1, "operator": 0}[service]
if service == "operator" and offset % 20 and os.environ.get("SECOND_FAILS"):
    print("no salts to be found", file=sys.stderr)
    sys.exit(7)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(5)
        self.send_response(200)
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", 9080 + offset), Answer).serve_forever()
"""
UP = """
import sys
from pathlib import Path
from uid2.devstack.up import run_stack
folder, stand_in, operators = sys.argv[1:]
sys.exit(run_stack(Path(folder), salts=5, operators=int(operators), scope="uid2", as_json=True,
                   program=(sys.executable, stand_in)))
"""


def start(folder: Path, operators: int = 1, **environment: str) -> tuple[subprocess.Popen[str], int]:
    stand_in = folder / "stand_in.py"
    stand_in.write_text(STAND_IN)
    offset = free_offset()
    process = subprocess.Popen(
        [sys.executable, "-c", UP, str(folder / "state"), str(stand_in), str(operators)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "port_offset": str(offset), **environment},
    )
    return process, offset


def free_offset() -> int:
    for offset in range(30_000 + os.getpid() % 500 * 20, 50_000, 20):
        try:
            for port in (8080, 8081, 8082, 8088, 8090, 9080, 9081, 9088, 9090, 9091, 9101):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return offset
    raise AssertionError("no free ports")


def banner(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    process, offset = start(tmp_path, operators=2)
    shown = banner(process)

    process.send_signal(number)
    process.communicate(timeout=30)

    assert shown["operators"] == [f"http://127.0.0.1:{8080 + offset}", f"http://127.0.0.1:{8090 + offset}"]
    assert process.returncode == 0
    for port in (9080, 9081, 9088, 9090):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port + offset}/", trust_env=False)


def test_a_child_that_dies_ends_the_stack_with_its_status(tmp_path: Path) -> None:
    process, offset = start(tmp_path)
    banner(process)

    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{9080 + offset}/die", trust_env=False)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 5
    assert "ended with status 5" in errors


def test_a_child_that_does_not_start_shows_its_last_words(tmp_path: Path) -> None:
    process, _ = start(tmp_path, operators=2, SECOND_FAILS="yes")

    output, errors = process.communicate(timeout=30)

    assert process.returncode == 7
    assert output == ""
    assert "no salts to be found" in errors


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_no_operator_outlives_a_killed_stack(tmp_path: Path) -> None:
    process, offset = start(tmp_path)
    banner(process)

    with httpx.stream("GET", f"http://127.0.0.1:{9080 + offset}/", trust_env=False):
        process.kill()
    process.communicate(timeout=30)

    gone = False
    for _ in range(600):
        try:
            httpx.get(f"http://127.0.0.1:{9080 + offset}/", trust_env=False, timeout=1.0)
        except httpx.ConnectError:
            gone = True
            break
    assert gone
