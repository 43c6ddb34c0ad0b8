"""Logouts while programs and paths fail, by seed; then the books: what was answered, recorded, honoured."""

import secrets
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

import msgspec
from fault_stage import Program, Stage
from faulty_paths import CALM, FaultyPath, Weather

from uid2.client.operator import OperatorClient
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import seal_request
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import Environment, EpochMillis
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.optout_log import iter_entries

CALLERS = 72
# A caller gives up before the operator does: its logout may be recorded all the same.
CALLER_SECONDS = 3.0
HONOUR_SECONDS = 60.0
STORM = Weather(delay=0.2, cut=0.25)
PATH_FAULTS = ("path partitioned", "paths reset")
FAULTS = ("operator killed", "instance killed", "both instances killed", "instance halted", *PATH_FAULTS)


@dataclass(slots=True)
class Attempt:
    email: str
    operator: int = -1
    acknowledged: bool = False


@dataclass
class Books:
    """Every attempt by its first-level hash, and how often files hold it."""

    first_level_salt: str
    attempts: dict[bytes, Attempt] = field(default_factory=dict)
    recorded: Counter[bytes] = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)

    def new(self, email: str) -> Attempt:
        identity = identity_hash_from(InputKind.EMAIL, email)
        assert identity is not None
        return self.attempts.setdefault(bytes(first_level_hash(identity, self.first_level_salt)), Attempt(email))

    def read_deltas(self, bucket: Path) -> None:
        """The entries of deltas that were not read before."""
        for path in bucket.rglob("optout-delta-*.dat"):
            if path.name not in self.read:
                self.read.add(path.name)
                entries = iter_entries(path.read_bytes(), Environment.TEST)
                self.recorded.update(bytes(entry.identity_hash) for entry in entries if not entry.special)

    def acknowledged(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.acknowledged]

    def figures(self) -> dict[str, int]:
        known = self.attempts
        return {
            "attempts": len(known),
            "acknowledged": sum(attempt.acknowledged for attempt in known.values()),
            "unanswered but recorded": sum(not a.acknowledged and h in self.recorded for h, a in known.items()),
            "lost": sum(a.acknowledged and h not in self.recorded for h, a in known.items()),
            "entries without cause": sum(count for h, count in self.recorded.items() if h not in known),
            "attempts with two entries": sum(count > 1 for count in self.recorded.values()),
        }


class Campaign:
    """`faults` counts what was done to programs and paths."""

    def __init__(self, stage: Stage, books: Books, round_of_faults: int) -> None:
        """Every kind of fault happens once, and two more to the paths, in so many logouts."""
        self.stage = stage
        self._round = round_of_faults
        self.books = books
        self.faults: Counter[str] = Counter()
        credentials = stage.state.credentials
        self._gcm = GcmKey(decode_base64(credentials.client_secret))
        self._headers = {"Authorization": f"Bearer {credentials.client_key}"}
        self._clients = [
            OperatorClient(stage.operator_url(n), credentials.client_key, credentials.client_secret)
            for n in range(len(stage.operators))
        ]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def run(self, seed: int, logouts: int) -> None:
        """One seed: faults and logouts together, then everything heals and every answered logout is honoured."""
        random = Random(seed)
        attempts = [self.books.new(f"seed{seed}-{n}-{secrets.token_hex(4)}@example.com") for n in range(logouts)]
        for path in (*self.stage.operator_paths, self.stage.files_path):
            path.weather = STORM
        with ThreadPoolExecutor(1, "mischief") as mischief:
            # One fault after the other, each due at its place among the logouts.
            due = deque(self._plan(random, logouts))
            doing: list[Future[None]] = []

            def begins(number: int) -> None:
                while due and due[0][0] <= number:
                    doing.append(mischief.submit(self._do, due.popleft()[1], random))

            self._all_call(random, attempts, begins)
            for future in doing:
                future.result()
        self._heal()
        self._await_honoured([attempt.email for attempt in attempts if attempt.acknowledged])
        self.stage.produce_rest()
        self.books.read_deltas(self.stage.bucket)

    def connection(self, number: int) -> HTTPConnection:
        """To an operator, for logouts."""
        return HTTPConnection("127.0.0.1", self.stage.operators[number].port, timeout=CALLER_SECONDS)

    def call(self, http: HTTPConnection, email: str) -> bool:
        """One logout; whether it was answered 200."""
        now = EpochMillis(time.time_ns() // 1_000_000)
        sealed = seal_request(
            msgspec.json.encode({"email": email}), secrets.token_bytes(8), now, self._gcm, secrets.token_bytes(12)
        )
        try:
            http.request("POST", "/v2/token/logout", encode_base64(sealed), self._headers)
            with http.getresponse() as answer:
                answer.read()
        except (OSError, HTTPException):
            http.close()
            return False
        return answer.status == 200

    def refused(self, number: int, emails: list[str]) -> list[bool]:
        """Whether an operator refuses each of them."""
        found: list[bool] = []
        for at in range(0, len(emails), 5000):
            found += [
                row.e == "optout" for row in self._clients[number].map_v3({"email": emails[at : at + 5000]}).email
            ]
        return found

    def _all_call(self, random: Random, attempts: list[Attempt], begins: Callable[[int], None]) -> None:
        turn, lock = iter(enumerate(attempts)), threading.Lock()

        def next_attempt() -> Attempt | None:
            with lock:
                number, attempt = next(turn, (0, None))
                if attempt is not None:
                    begins(number)
                    up = [n for n, operator in enumerate(self.stage.operators) if operator.serving]
                    attempt.operator = random.choice(up or range(len(self.stage.operators)))
                return attempt

        def caller() -> None:
            connections = [self.connection(number) for number in range(len(self.stage.operators))]
            while (attempt := next_attempt()) is not None:
                attempt.acknowledged = self.call(connections[attempt.operator], attempt.email)
                if not attempt.acknowledged:
                    time.sleep(0.05)
            for connection in connections:
                connection.close()

        with ThreadPoolExecutor(CALLERS) as pool:
            calling = [pool.submit(caller) for _ in range(CALLERS)]
            while not all(future.done() for future in calling):
                for program in self.stage.programs:
                    program.serving = program.serving or program.ready()
                time.sleep(0.05)
            for future in calling:
                future.result()

    def _plan(self, random: Random, logouts: int) -> list[tuple[int, str]]:
        """Which faults happen at which logout."""
        kinds = [
            kind for _ in range(max(1, logouts // self._round)) for kind in (*FAULTS, *random.choices(PATH_FAULTS, k=2))
        ]
        random.shuffle(kinds)
        return list(zip(sorted(random.sample(range(logouts), len(kinds))), kinds, strict=True))

    def _do(self, kind: str, random: Random) -> None:
        stage = self.stage
        self.faults[kind] += 1
        match kind:
            case "operator killed":
                self._kill([random.choice(stage.operators)], random)
            case "instance killed":
                self._kill([random.choice(stage.instances)], random)
            case "both instances killed":
                self._kill(stage.instances, random)
            case "instance halted":
                self._halt(random.choice(stage.instances), random)
            case "path partitioned":
                self._partition(random.choice(stage.operator_paths), random)
            case _:
                for path in random.sample(stage.operator_paths, 2):
                    stage.paths.run(path.sever())

    def _kill(self, programs: list[Program], random: Random) -> None:
        """Killed, and started again without waiting for it: the next fault may meet it while it starts."""
        for program in programs:
            program.kill()
        time.sleep(random.uniform(0, 0.3))
        for program in programs:
            program.start()

    def _halt(self, program: Program, random: Random) -> None:
        assert program.process is not None
        program.process.send_signal(signal.SIGSTOP)
        time.sleep(random.uniform(0.1, 0.6))
        program.process.send_signal(signal.SIGCONT)

    def _partition(self, path: FaultyPath, random: Random) -> None:
        path.partitioned = True
        self.stage.paths.run(path.sever())
        time.sleep(random.uniform(0.2, 0.9))
        path.partitioned = False

    def _heal(self) -> None:
        for path in (*self.stage.operator_paths, self.stage.files_path):
            path.weather, path.partitioned = CALM, False
            # A connection that was opened in the storm would be cut yet.
            self.stage.paths.run(path.sever())
        for program in self.stage.programs:
            program.await_ready()

    def _await_honoured(self, emails: list[str]) -> None:
        for number, operator in enumerate(self.stage.operators):
            left, end = emails, time.monotonic() + HONOUR_SECONDS
            while left:
                left = [email for email, no in zip(left, self.refused(number, left), strict=True) if not no]
                assert not left or time.monotonic() < end, f"{operator.name} honours {len(left)} logouts never"


def spread_seconds(campaign: Campaign, logouts: int) -> list[float]:
    """From the answer of a logout until each other operator refuses, nothing failing; one time per other operator."""
    campaign.stage.await_tails()
    times = []
    operators = range(len(campaign.stage.operators))
    for n in range(logouts):
        email = campaign.books.new(f"calm{n}-{secrets.token_hex(4)}@example.com")
        taker = n % len(operators)
        with closing(campaign.connection(taker)) as http:
            email.acknowledged = campaign.call(http, email.email)
        assert email.acknowledged
        answered = time.monotonic()
        assert campaign.refused(taker, [email.email]) == [True], "who took it honours it before it answers"
        for other in operators:
            if other != taker:
                while not campaign.refused(other, [email.email])[0]:
                    assert time.monotonic() < answered + HONOUR_SECONDS
                times.append(time.monotonic() - answered)
    return sorted(times)
