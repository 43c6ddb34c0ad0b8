"""Whole map requests against a plain loop over the same rules, alternated, with fresh inputs in every repeat."""

import json
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from hashlib import sha256

from bench.result import Result
from uid2.bulk.mapping import MapOptions, Shape, map_request
from uid2.bulk.tables import OptOutView, SaltTable, empty_index, pack_salts
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import Environment, EpochMillis, IdentityScope
from uid2.protocol.normalize import normalize_email
from uid2.protocol.salts import SaltMetadata

RECORDS = 10_000
NOW = EpochMillis(1_800_000_000_000)


def salts_of(size: int) -> SaltTable:
    """A table of random salts."""
    lines = [f"{row},{NOW},{encode_base64(secrets.token_bytes(32))},{NOW},,,,,,,".encode() for row in range(size)]
    return SaltTable(pack_salts(lines, SaltMetadata(1, 0, "first-level", "b", "secret", ())))


def measure(quick: bool) -> Iterator[Result]:
    """Records per second on one core, and the ratio that the reference owes to the plain loop."""
    table = salts_of(65_536 if quick else 1 << 20)
    plain_salts = [table.bucket(row).current_salt or "" for row in range(table.size)]
    optouts = OptOutView(empty_index(Environment.TEST))
    options = MapOptions(IdentityScope.UID2, Environment.TEST, False, True, NOW)

    def reference(emails: list[str]) -> None:
        map_request(json.dumps({"email": emails}).encode(), Shape.V3, table, optouts, options)

    def plain(emails: list[str]) -> None:
        json.dumps({"email": [_plain_uid(email, plain_salts) for email in json.loads(json.dumps(emails))]})

    times: dict[str, list[float]] = {"reference": [], "plain loop": []}
    for _ in range(3 if quick else 9):
        for name, run in (("reference", reference), ("plain loop", plain)):
            times[name].append(_seconds(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    yield Result("bulk, reference", RECORDS / medians["reference"], "records/s")
    yield Result("bulk, plain loop", RECORDS / medians["plain loop"], "records/s")
    yield Result(
        "bulk, reference / plain loop time", medians["reference"] / medians["plain loop"], "ratio", "lower", 1.3
    )


def _seconds(run: Callable[[list[str]], None]) -> float:
    emails = [f"{secrets.token_hex(8)}@example.com" for _ in range(RECORDS)]
    begin = time.perf_counter()
    run(emails)
    return time.perf_counter() - begin


def _plain_uid(email: str, salts: list[str]) -> dict[str, object]:
    normal = normalize_email(email)
    if normal is None:
        return {"e": "invalid identifier"}
    flh = sha256((encode_base64(sha256(normal.encode()).digest()) + "first-level").encode()).digest()
    row = (flh[0] << 12 | flh[1] << 4 | flh[2] & 15) % len(salts)
    uid = encode_base64(sha256((encode_base64(flh) + salts[row]).encode()).digest())
    return {"u": uid, "p": None, "r": NOW // 1000}
