"""Load in a process of its own: `python -m bench.load`, a plan on standard input, figures on standard output.

Every body is sealed before the clock starts, so that the machine's cores serve the operator. One thread watches the
connections with epoll and reads no more of an answer than its status and length; the first answer is opened.

    plan line ─▶ "ready" ─▶ a line from the caller ─▶ load ─▶ figures line
"""

import json
import resource
import secrets
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from uid2.devstack.demo_data import DemoCredentials
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import open_response, seal_request
from uid2.protocol.ids import EpochMillis

RECORDS = 10_000
CHUNK = 1 << 20
GIVE_UP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`kind`: token or map. `rate` None: every connection asks again as soon as it is answered (closed loop); else
    requests a second, each timed from the moment it was due. `bodies`: how many different ones are sealed."""

    kind: str
    port: int
    key: str
    secret: str
    connections: int
    seconds: float
    bodies: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Times in seconds; `cpu` is what this process used."""

    answers: int
    seconds: float
    cpu: float
    refused: int
    times: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    def quantile(self, part: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def plan_for(kind: str, port: int, credentials: DemoCredentials, **members: Any) -> Plan:
    return Plan(kind, port, credentials.client_key, credentials.client_secret, **members)


def run_together(*plans: Plan) -> list[Figures]:
    """Each plan in its own process; all begin when all are ready."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in plans
    ]
    try:
        for process, plan in zip(processes, plans, strict=True):
            _tell(process, json.dumps(asdict(plan)))
        for process in processes:
            if _hear(process) != "ready":
                raise RuntimeError("the load process did not start")
        for process in processes:
            _tell(process, "go")
        return [Figures(**json.loads(_hear(process))) for process in processes]
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a load process ended with status {process.wait()}")
    return line


def sealed_requests(plan: Plan) -> Iterator[bytes]:
    """Whole HTTP requests, every one with identities nobody saw before."""
    gcm = GcmKey(decode_base64(plan.secret))
    path = {"token": "/v2/token/generate", "map": "/v3/identity/map"}[plan.kind]
    for _ in range(plan.bodies):
        document: object = {"email": f"{secrets.token_hex(8)}@example.com"}
        if plan.kind == "map":
            document = {"email": [f"{name.hex()}@example.com" for name in _names(RECORDS)]}
        now = EpochMillis(time.time_ns() // 1_000_000)
        sealed = seal_request(json.dumps(document).encode(), secrets.token_bytes(8), now, gcm, secrets.token_bytes(12))
        body = encode_base64(sealed).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nAuthorization: Bearer {plan.key}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


def _names(count: int) -> Iterator[bytes]:
    drawn = secrets.token_bytes(8 * count)
    return (drawn[at : at + 8] for at in range(0, len(drawn), 8))


class Connection:
    """One socket; `due` is when the request in flight should have left."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._buffer = bytearray(CHUNK)
        self._head = b""
        self._missing = -1
        self.status = 0
        self.body = b""

    def ask(self, request: bytes, due: float) -> None:
        self.due, self._head, self._missing = due, b"", -1
        self.socket.sendall(request)

    def read(self, keep: bool) -> bool:
        """Whether the answer is complete now; its body is kept when `keep`."""
        size = self.socket.recv_into(self._buffer)
        if not size:
            raise RuntimeError("the operator closed a connection")
        if self._missing >= 0:
            self._missing -= size
            if keep:
                self.body += self._buffer[:size]
            return self._missing == 0
        self._head += self._buffer[:size]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.status = int(self._head[9:12])
        lower = self._head[: end + 2].lower()
        at = lower.index(b"content-length:") + 15
        self.body = self._head[end + 4 :]
        self._missing = int(lower[at : lower.index(b"\r\n", at)]) - len(self.body)
        return self._missing == 0


def drive(plan: Plan, requests: list[bytes]) -> Figures:
    """Runs the plan; RuntimeError when an answer is neither 200 nor 429, or the first one cannot be opened."""
    connections = {}
    poll = select.epoll()
    for _ in range(plan.connections):
        connection = Connection(plan.port)
        connections[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    _check_first(plan, next(iter(connections.values())), requests[0])
    turn = _endless(requests[1:])
    idle = deque(connections.values())
    waiting: deque[float] = deque()
    times: list[float] = []
    refused = 0
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    begin = now = time.perf_counter()
    end, due = begin + plan.seconds, begin
    if plan.rate is None:
        while idle:
            idle.popleft().ask(next(turn), time.perf_counter())
    while now < end or len(idle) < plan.connections or waiting:
        while plan.rate is not None and due <= now and due < end:
            waiting.append(due)
            due += 1 / plan.rate
        while waiting and idle:
            idle.popleft().ask(next(turn), waiting.popleft())
        pause = max(0.0, min(due, end) - now) if plan.rate is not None and due < end else GIVE_UP_SECONDS
        if now < end or len(idle) < plan.connections:
            for descriptor, _ in poll.poll(pause):
                connection = connections[descriptor]
                if not connection.read(keep=False):
                    continue
                now = time.perf_counter()
                if connection.status == 429:
                    refused += 1
                elif connection.status == 200:
                    times.append(now - connection.due)
                else:
                    raise RuntimeError(f"the operator answered {connection.status}")
                if plan.rate is None and now < end:
                    connection.ask(next(turn), now)
                else:
                    idle.append(connection)
        now = time.perf_counter()
        if now > end + GIVE_UP_SECONDS:
            raise RuntimeError("requests were not answered")
        if plan.rate is not None and due >= end and not waiting and len(idle) == plan.connections:
            break
    return Figures(len(times), now - begin, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu, refused, times)


def _check_first(plan: Plan, connection: Connection, request: bytes) -> None:
    connection.ask(request, 0.0)
    while not connection.read(keep=True):
        pass
    if connection.status != 200:
        raise RuntimeError(f"the operator answered {connection.status}: {bytes(connection.body[:300])!r}")
    document = json.loads(
        open_response(decode_base64(bytes(connection.body)), GcmKey(decode_base64(plan.secret))).payload
    )
    wanted = "advertising_token" if plan.kind == "token" else "email"
    if wanted not in document["body"]:
        raise RuntimeError("the first answer is not what was asked for")


def _endless(items: list[bytes]) -> Iterator[bytes]:
    while True:
        yield from items


@contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        sys.exit(f"load: {error}")


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    requests = list(sealed_requests(plan))
    print("ready", flush=True)
    sys.stdin.readline()
    with _spoken():
        print(json.dumps(asdict(drive(plan, requests))), flush=True)


if __name__ == "__main__":
    main()
