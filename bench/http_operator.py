"""The operator over HTTP: tokens alone, bulk alone, both at once; one operator process, load from other processes.

All take turns in every round, each with identities of its own, and the bars compare figures of the same round:
the machine may be busy, and it is as busy for both sides.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.load import RECORDS, Figures, plan_for, run_together
from bench.operator_process import OperatorUnderLoad, fresh_state, serving
from bench.result import Result
from uid2.bulk.engine import best_engine

TOKEN_RATE = 100.0
TOKEN_CONNECTIONS = 16
BULK_CONNECTIONS = 4
SALTS = 65_536


@dataclass(frozen=True, slots=True)
class Round:
    """`steady` and `pressed`: tokens at TOKEN_RATE, alone and under bulk; `single`: one map request at a time."""

    tokens: Figures
    steady: Figures
    single: Figures
    bulk: Figures
    pressed: Figures
    pressed_bulk: Figures

    @property
    def allowed(self) -> float:
        """Idle p99 and half the time of one batch."""
        return self.steady.quantile(0.99) + statistics.median(self.single.times) / 2


def measure(quick: bool) -> Iterator[Result]:
    """Requests and records a second, quantiles in milliseconds, and the two bars of the lanes."""
    rounds, seconds = (3, 2.0) if quick else (7, 5.0)
    with fresh_state(SALTS) as state, serving(state) as operator:
        measured = [_round(operator, seconds) for _ in range(rounds)]
    median = statistics.median
    engine = best_engine().name
    yield Result("http, token generate, 16 connections", median(r.tokens.rate for r in measured), "requests/s")
    for part, name in ((0.5, "p50"), (0.99, "p99")):
        yield _ms(f"http, token generate, 16 connections, {name}", median(r.tokens.quantile(part) for r in measured))
        yield _ms(f"http, token generate at 100/s, {name}", median(r.steady.quantile(part) for r in measured))
        yield _ms(f"http, tokens under bulk, {name}", median(r.pressed.quantile(part) for r in measured))
    yield _ms("http, one map of 10,000", median(median(r.single.times) for r in measured))
    yield Result(f"http, map of 10,000 ({engine})", median(r.bulk.rate for r in measured) * RECORDS, "records/s")
    yield Result(
        "http, tokens under bulk, p99 / allowed",
        median(r.pressed.quantile(0.99) / r.allowed for r in measured),
        "ratio",
        "lower",
        1.0,
    )
    kept = median(r.pressed_bulk.rate / r.bulk.rate for r in measured)
    yield Result("http, bulk kept under tokens", kept, "ratio", target=0.6)


def _round(operator: OperatorUnderLoad, seconds: float) -> Round:
    port, credentials = operator.port, operator.credentials
    crowd = plan_for("token", port, credentials, connections=TOKEN_CONNECTIONS, seconds=seconds, bodies=2000)
    paced = plan_for(
        "token",
        port,
        credentials,
        connections=TOKEN_CONNECTIONS,
        seconds=seconds,
        bodies=int(TOKEN_RATE * seconds) + 8,
        rate=TOKEN_RATE,
    )
    single = plan_for("map", port, credentials, connections=1, seconds=seconds / 2, bodies=12)
    bulk = plan_for("map", port, credentials, connections=BULK_CONNECTIONS, seconds=seconds, bodies=16)
    (tokens,), (steady,), (alone,), (busy,) = (run_together(plan) for plan in (crowd, paced, single, bulk))
    pressed, pressed_bulk = run_together(paced, bulk)
    return Round(tokens, steady, alone, busy, pressed, pressed_bulk)


def _ms(name: str, seconds: float) -> Result:
    return Result(name, seconds * 1000, "ms", "lower")
