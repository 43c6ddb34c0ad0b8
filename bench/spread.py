"""How long until every other operator honours an opt-out: three operators of `uid2 up`, the live tail between them."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.operator_process import free_offset
from bench.result import Result
from uid2.client.operator import OperatorClient

OPERATORS = 3
PORTS = tuple(
    port + 10 * number for number in range(OPERATORS) for port in (8080, 8081, 8082, 8088, 9080, 9081, 9088, 9091)
)
# How often an operator is asked whether it refuses by now; no answer is exacter than that.
ASK_SECONDS = 0.002
# In the crowd, logouts come from so many callers at once.
CALLERS = 16
GIVE_UP_SECONDS = 60.0


def measure(quick: bool) -> Iterator[Result]:
    """From the answer of a logout to the first refusal of the same person by each other operator."""
    with _stack() as banner:
        calm = _times(banner, 30 if quick else 300, callers=1)
        crowd = _times(banner, 160 if quick else 2000, callers=CALLERS)
    for name, times in (("one at a time", calm), (f"{CALLERS} at a time", crowd)):
        yield Result(f"opt-out, answer to refusal elsewhere, {name}, p50", _part(times, 0.5) * 1000, "ms", "lower")
        yield Result(
            f"opt-out, answer to refusal elsewhere, {name}, p99", _part(times, 0.99) * 1000, "ms", "lower", 2000
        )


@contextlib.contextmanager
def _stack() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="uid2-bench-") as state:
        words = ["up", "--state", state, "--operators", str(OPERATORS), "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "uid2.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "port_offset": str(free_offset(PORTS))},
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the stack did not get ready")
            yield json.loads(line)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def _times(banner: dict[str, Any], logouts: int, callers: int) -> list[float]:
    """Seconds, ascending: one for each logout and each operator that did not take it."""

    def follow(numbers: range) -> list[float]:
        times = []
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(OperatorClient(url, banner["client_key"], banner["client_secret"]))
                for url in banner["operators"]
            ]
            for number in numbers:
                email = f"{secrets.token_hex(8)}@example.com"
                taker = clients[number % OPERATORS]
                taker.logout({"email": email})
                answered = time.perf_counter()
                waiting = [client for client in clients if client is not taker]
                while waiting:
                    for client in tuple(waiting):
                        if client.map_v3({"email": [email]}).email[0].e == "optout":
                            times.append(time.perf_counter() - answered)
                            waiting.remove(client)
                    if time.perf_counter() > answered + GIVE_UP_SECONDS:
                        raise RuntimeError("an opt-out is not honoured everywhere")
                    time.sleep(ASK_SECONDS)
        return times

    with ThreadPoolExecutor(callers) as pool:
        parts = pool.map(follow, (range(first, logouts, callers) for first in range(callers)))
        return sorted(seconds for part in parts for seconds in part)


def _part(times: list[float], part: float) -> float:
    return times[min(len(times) - 1, int(part * len(times)))]
