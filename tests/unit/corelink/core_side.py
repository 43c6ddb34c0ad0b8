"""A client of Core on the clock of the test, with nothing of any program in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from fake_core import FakeCore

from uid2.corelink.attestation import Attestation
from uid2.corelink.client import CoreClient
from uid2.corelink.exchange import AttestationRefusedError, AttestExchange
from uid2.corelink.headers import caller_identity
from uid2.corelink.source import CoreSource
from uid2.corelink.watch import AttestationWatch
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.protocol.secret import Secret
from uid2.service.clock import FixedClock

HOUR = 3600.0
NOW = EpochMillis(1_750_000_000_000)
KEY = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
SHORT = httpx.Timeout(0.2, connect=0.2)
W = TypeVar("W", bound=AttestationWatch)


class CountedEntropy:
    """Bytes that differ at each call and never by chance."""

    def __init__(self) -> None:
        self.calls = 0

    def bytes(self, n: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(1) * n


@dataclass
class FakeQuotes:
    kind: str = "fake"
    asked: list[bytes] = field(default_factory=list)
    error: Exception | None = None

    def quote(self, report_data: bytes) -> bytes:
        self.asked.append(report_data)
        if self.error is not None:
            raise self.error
        return b"quote over " + report_data


@dataclass
class NotedWatch:
    """Notes what it is told, by name."""

    events: list[str] = field(default_factory=list)
    skews: list[int] = field(default_factory=list)

    def attested(self) -> None:
        self.events.append("attested")

    def refused(self, error: AttestationRefusedError) -> None:
        self.events.append("refused")

    def failed(self, error: Uid2Error) -> None:
        self.events.append("failed")

    def core_answered(self) -> None:
        self.events.append("core_answered")

    def core_failed(self) -> None:
        self.events.append("core_failed")

    def skew_measured(self, skew_ms: int) -> None:
        self.skews.append(skew_ms)

    def status(self) -> Mapping[str, Any]:
        return {"watched": len(self.events)}


@dataclass
class Side(Generic[W]):
    """The other side of one Core."""

    core: FakeCore
    clock: FixedClock
    attestation: Attestation
    source: CoreSource
    quotes: FakeQuotes | None
    watch: W

    def read(self) -> bytes:
        return self.source.read(f"{self.core.origin}/sites/refresh")

    def advance(self, seconds: float) -> None:
        self.clock.advance(int(seconds * 1000))


clients: list[CoreClient] = []


def side_with(core: FakeCore, watch: W, quotes: FakeQuotes | None = None, *, encrypted: bool = False) -> Side[W]:
    clock, entropy = core.clock, CountedEntropy()
    caller = caller_identity(Secret(KEY.encode()), "uid2-operator", "5.70.250", "test-0001", "public")
    client = CoreClient(clock, SHORT)
    clients.append(client)
    exchange = AttestExchange(core.attest_url, client, caller, quotes, entropy)
    attestation = Attestation(exchange, caller, "trusted", clock, entropy, watch)
    return Side(core, clock, attestation, CoreSource(client, attestation, encrypted=encrypted), quotes, watch)


def side_of(core: FakeCore, quotes: FakeQuotes | None = None, *, encrypted: bool = False) -> Side[NotedWatch]:
    return side_with(core, NotedWatch(), quotes, encrypted=encrypted)
