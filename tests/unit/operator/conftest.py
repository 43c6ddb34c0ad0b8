"""An operator on the sample stores, called in this process: no socket, a clock that stands still."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from uid2.bulk.tables import OptOutView, empty_index
from uid2.operator.context import OperatorContext, OptOutRequest
from uid2.operator.enveloped import enveloped
from uid2.operator.handlers.client_generate import generate_on_client_side
from uid2.operator.handlers.token_generate import UNKNOWN, generate_token
from uid2.operator.handlers.token_logout import log_out
from uid2.operator.handlers.token_refresh import refresh_token
from uid2.operator.handlers.token_validate import validate_token
from uid2.operator.lanes import Lanes
from uid2.operator.settings import settings_of
from uid2.protocol.clients import Client
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import open_response, seal_request
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import Environment, EpochMillis, Role
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.http import Application, Headers, Request, Response, Route, Router
from uid2.stores.kinds import KINDS
from uid2.stores.loading import StoreLoader
from uid2.stores.refresher import StoreRefresher
from uid2.stores.snapshot import OperatorSnapshot
from uid2.stores.sources.local import LocalSource

sys.path.insert(0, str(Path(__file__).parent))
# What plays Core for every client of it.
sys.path.insert(0, str(Path(__file__).parents[1] / "corelink"))

NOW = EpochMillis(1_750_000_000_000)
NONCE = b"nonce-08"
STORES = Path(__file__).parents[2] / "vectors" / "stores" / "operator-mock"
FULL_KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
READER_KEY = "UID2-C-L-123-t32pCM.5NCX1E94UgOd2f8zhsKmxzCoyhXohHYSSWR8U="


class TallyOfMetrics:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.observed: list[tuple[str, float]] = []

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += int(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.observed.append((name, value))

    def total(self, name: str, **labels: str) -> int:
        wanted = set(labels.items())
        return sum(n for (counted, given), n in self.counts.items() if counted == name and wanted <= set(given))


@dataclass
class RecordingSink:
    fails: bool = False
    recorded: list[OptOutRequest] = field(default_factory=list)

    async def record(self, optout: OptOutRequest) -> None:
        if self.fails:
            raise DependencyError("the opt-out service answered 503")
        self.recorded.append(optout)


@dataclass(frozen=True)
class Answer:
    response: Response
    document: Any

    @property
    def status(self) -> int:
        return self.response.status


@dataclass
class Operator:
    """`call` seals and opens; `send` is the bare request."""

    context: OperatorContext
    metrics: TallyOfMetrics
    sink: RecordingSink
    app: Application

    def send(self, path: str, body: bytes = b"", **headers: str) -> Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request("POST", path, headers=Headers.of(fields), body=body)
        return asyncio.run(self.app.respond(request))

    def call(
        self,
        path: str,
        document: Any,
        key: str = FULL_KEY,
        *,
        binary: bool = False,
        now: int | None = None,
        **headers: str,
    ) -> Answer:
        client = self.client(key)
        payload = (
            document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        )
        at = EpochMillis(self.context.clock.now_ms() if now is None else now)
        sealed = seal_request(payload, NONCE, at, client.gcm, bytes(12))
        body = sealed if binary else encode_base64(sealed).encode()
        if binary:
            headers["content_type"] = "application/octet-stream"
        response = self.send(path, body, authorization=f"Bearer {key}", **headers)
        return Answer(response, self.read(response, client, binary=binary))

    def client(self, key: str) -> Client:
        client = self.context.snapshot.clients.find(key)
        assert client is not None
        return client

    def read(self, response: Response, client: Client, *, binary: bool = False) -> Any:
        if response.status == 200:
            blob = response.body if binary else decode_base64(response.body)
            opened = open_response(blob, client.gcm)
            assert opened.nonce == NONCE
            return json.loads(opened.payload)
        return json.loads(response.body) if response.content_type == "application/json" else None

    def change(self, **settings: Any) -> None:
        self.context.settings = replace(self.context.settings, **settings)

    def exchange(self, **stores: Any) -> None:
        self.context.snapshot = replace(self.context.snapshot, **stores)


def load_snapshot(stores: Path) -> OperatorSnapshot:
    """The snapshot of a folder whose metadata name locations below `/com.uid2.core/test/`."""

    source = Prefixless(stores)
    loaders = [
        StoreLoader(kind, source, f"{name}/metadata.json", lambda: NOW)
        for name, kind in KINDS.items()
        if (stores / name / "metadata.json").exists()
    ]
    refresher = StoreRefresher(loaders, now=lambda: NOW, monotonic=lambda: 0.0)
    return refresher.load_all()


class Prefixless:
    def __init__(self, root: Path) -> None:
        self._files = LocalSource(root)

    def read(self, path: str, limit: int = 1 << 31) -> bytes:
        return self._files.read(path.removeprefix("/com.uid2.core/test/"), limit)

    def list(self, prefix: str) -> list[str]:
        return self._files.list(prefix)


@pytest.fixture(scope="session")
def sample_snapshot() -> OperatorSnapshot:
    return load_snapshot(STORES)


@pytest.fixture
def make_operator(sample_snapshot: OperatorSnapshot) -> Callable[..., Operator]:
    def make(**members: Any) -> Operator:
        metrics, sink = TallyOfMetrics(), RecordingSink()
        context: OperatorContext

        async def spread(optout: OptOutRequest) -> None:
            entry = (bytes(optout.first_level_hash), bytes(optout.raw_uid), int(optout.at))
            context.optouts = context.optouts.with_entries([entry])

        context = OperatorContext(
            settings=settings_of({"client_side_token_generate": True, **members}),
            clock=FixedClock(NOW),
            entropy=SystemEntropy(),
            snapshot=sample_snapshot,
            optouts=OptOutView(empty_index(Environment.TEST)),
            metrics=metrics,  # type: ignore[arg-type]
            lanes=Lanes(1, 1 << 24, 10),
            optout_sink=sink,
            spread_optout=spread,
        )
        generator, optout = (Role.GENERATOR,), (Role.OPTOUT,)
        handlers: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v2/token/generate": enveloped(context, generate_token, generator, unknown=UNKNOWN),
            "/v2/token/validate": enveloped(context, validate_token, generator),
            "/v2/token/logout": enveloped(context, log_out, optout),
            "/v2/token/refresh": refresh_token(context),
            "/v2/token/client-generate": generate_on_client_side(context),
        }
        router = Router(Route(("POST",), path, handler) for path, handler in handlers.items())
        return Operator(context, metrics, sink, Application(router))

    return make


@pytest.fixture
def operator(make_operator: Callable[..., Operator]) -> Operator:
    return make_operator()
