"""Whole map requests: the native engine, the reference, and a plain loop over the same packed tables.

The plain loop is the yardstick of the reference: one straight-line function for one field and one shape, which gives
the same bytes. All take turns, each with inputs of its own in every repeat; times are those of the thread, so that
other work on the machine counts little.
"""

import json
import mmap
import secrets
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from pybase64 import b64encode, b64encode_as_string

from bench.result import Result
from uid2.bulk.engine import Engine, best_engine, engine_named
from uid2.bulk.mapping import MapOptions, Shape
from uid2.bulk.tables import OptOutView, SaltTable
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import Environment, EpochMillis, IdentityScope
from uid2.protocol.salts import SaltMetadata

RECORDS = 10_000
NOW = EpochMillis(1_800_000_000_000)
DAY = 86_400_000
METADATA = SaltMetadata(1, 0, "VCJgJbPFMxrZHnaQ5UC9hNhGjXo5zGjWcuLqLpM1Q4E=", "b", "secret", ())
OPTIONS = MapOptions(IdentityScope.UID2, Environment.TEST, False, True, NOW)


def salt_file(size: int) -> bytes:
    """Random salts, half of them rotated within the last ninety days, with the previous salt."""
    rows = []
    for row in range(size):
        updated = NOW - (row % 180) * DAY
        current, previous = encode_base64(secrets.token_bytes(32)), encode_base64(secrets.token_bytes(32))
        rows.append(f"{1_000_000 + row},{updated},{current},{updated + 200 * DAY},{previous},,,,,,")
    return "\n".join(rows).encode() + b"\n"


def write_log(path: Path, entries: int) -> None:
    """An opt-out log of random entries."""
    tail = (1_700_000_000).to_bytes(7, "little") + b"\0"
    with path.open("wb") as file:
        while entries:
            part = min(entries, 100_000)
            keys = secrets.token_bytes(64 * part)
            file.write(b"".join(keys[at : at + 64] + tail for at in range(0, len(keys), 64)))
            entries -= part


@contextmanager
def optout_index(entries: int) -> Iterator[memoryview]:
    """A mapped index of random entries."""
    with TemporaryDirectory() as folder:
        log, index = Path(folder) / "log.dat", Path(folder) / "index"
        write_log(log, entries)
        best_engine().build_optout_index([log], index, Environment.TEST)
        log.unlink()
        with index.open("rb") as file:
            yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def optout_entries(quick: bool) -> int:
    """The reference alone takes long to sort many."""
    return 100_000 if quick or best_engine().name == "reference" else 10_000_000


def measure(quick: bool) -> Iterator[Result]:
    """Records per second on one core, and what the engines owe to each other and to the plain loop."""
    table = SaltTable(best_engine().pack_salt_file(salt_file(65_536 if quick else 1 << 20), METADATA))
    engines = {engine.name: engine for engine in (best_engine(), engine_named("reference"))}
    with optout_index(optout_entries(quick)) as index:
        runs: dict[str, Callable[[bytes], object]] = {"plain loop": plain_map(table, index)}
        for name, engine in engines.items():
            view = OptOutView(engine.open_optouts(index))
            for shape in Shape:
                runs[f"{name}, {shape.name.lower()}"] = _request(engine, shape, table, view)
        _check_agreement(runs)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(5 if quick else 15):
            for name, run in runs.items():
                times[name].append(_seconds(run))
    rates = {name: RECORDS / statistics.median(values) for name, values in times.items()}
    for name, rate in rates.items():
        yield Result(f"bulk, {name}", rate, "records/s", target=1_000_000 if name.startswith("native") else None)
    # Of one repeat with itself: the machine's speed changes between repeats.
    slower = _median_ratio(times["reference, v3"], times["plain loop"])
    yield Result("bulk, reference / plain loop time", slower, "ratio", "lower", 1.3)
    if "native, v3" in times:
        faster = _median_ratio(times["reference, v3"], times["native, v3"])
        yield Result("bulk, native / reference rate", faster, "ratio", target=5)


def _median_ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(time / other for time, other in zip(times, others, strict=True))


def _request(engine: Engine, shape: Shape, table: SaltTable, view: OptOutView) -> Callable[[bytes], bytes]:
    return lambda body: engine.map_request(body, shape, table, view, OPTIONS).body


def _emails() -> bytes:
    return json.dumps({"email": [f"{secrets.token_hex(8)}@example.com" for _ in range(RECORDS)]}).encode()


def _check_agreement(runs: dict[str, Callable[[bytes], object]]) -> None:
    body = _emails()
    answers = {run(body) for name, run in runs.items() if not name.endswith("v2")}
    if len(answers) != 1:
        raise AssertionError("the plain loop and the engines answer differently")


def _seconds(run: Callable[[bytes], object]) -> float:
    body = _emails()
    begin = time.thread_time()
    run(body)
    return time.thread_time() - begin


def plain_map(table: SaltTable, index: memoryview) -> Callable[[bytes], bytes]:
    """A loop over the e-mail addresses of a request, answered in the shape of v3."""
    salts = table.buffer
    rows = table.size
    cold = 64 + 48 * rows
    size = int.from_bytes(index[8:16], "little")
    first_level = table.first_level_salt.encode()
    hot_row, leading_of = struct.Struct("<32sIHIHB").unpack_from, struct.Struct(">Q").unpack_from

    def run(body: bytes) -> bytes:
        answers: list[dict[str, object]] = []
        tomorrow = (NOW // DAY + 1) * DAY
        for text in msgspec.json.decode(body)["email"]:
            local, at, domain = text.lower().partition("@")
            local, domain = local.replace(" ", ""), domain.rstrip(" ")
            if not at or not domain or "@" in domain:
                answers.append({"e": "invalid identifier"})
                continue
            if domain == "gmail.com":
                local = local.partition("+")[0].replace(".", "")
            if not local:
                answers.append({"e": "invalid identifier"})
                continue
            flh = sha256(b64encode(sha256(f"{local}@{domain}".encode()).digest()) + first_level).digest()
            (leading,) = leading_of(flh)
            row = leading * size >> 64
            for _ in range(6):
                distance = (leading - leading_of(index, 32 + row * 40)[0]) * size >> 64
                row = min(max(row + distance, 0), size - 1)
                if -4 < distance < 4:
                    break
            while row and leading_of(index, 32 + row * 40 - 40)[0] >= leading:
                row -= 1
            while row < size and leading_of(index, 32 + row * 40)[0] < leading:
                row += 1
            latest = 0
            while row < size:
                entry = bytes(index[32 + row * 40 : 72 + row * 40])
                if entry[:16] > flh[:16]:
                    break
                if entry[:16] == flh[:16]:
                    latest = max(latest, int.from_bytes(entry[32:39], "little"))
                row += 1
            if latest:
                answers.append({"e": "optout"})
                continue
            bucket = (flh[0] << 12 | flh[1] << 4 | flh[2] & 15) % rows
            salt, updated, updated_high, refresh, refresh_high, flags = hot_row(salts, 64 + bucket * 48)
            updated, refresh = updated_high << 32 | updated, refresh_high << 32 | refresh
            flh_text = b64encode(flh)
            uid = b64encode_as_string(sha256(flh_text + b64encode(salt)).digest())
            previous = None
            if NOW - updated < 90 * DAY and flags & 4:
                previous_salt = b64encode(salts[cold + bucket * 36 : cold + bucket * 36 + 32])
                previous = b64encode_as_string(sha256(flh_text + previous_salt).digest())
            answers.append({"u": uid, "p": previous, "r": (refresh if refresh >= NOW else tomorrow) // 1000})
        answer = {"email": answers, "email_hash": [], "phone": [], "phone_hash": []}
        return msgspec.json.encode({"body": answer, "status": "success"})

    return run
