"""The whole operator in this process: sample stores, a clock that stands still, requests as ASGI events."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uid2.bulk.tables import OptOutView, empty_index
from uid2.operator.context import OperatorContext, OptOutRequest
from uid2.operator.lanes import Lanes
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.routes import operator_application
from uid2.operator.settings import settings_of
from uid2.protocol.clients import Client
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import open_response, seal_request
from uid2.protocol.errors import DependencyError
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import Environment, EpochMillis, FirstLevelHash
from uid2.protocol.keysets import KeyRing
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.health import Health
from uid2.stores.kinds import KINDS
from uid2.stores.loading import StoreLoader
from uid2.stores.refresher import StoreRefresher
from uid2.stores.snapshot import OperatorSnapshot
from uid2.stores.sources.local import LocalSource

NOW = EpochMillis(1_750_000_000_000)
NONCE = b"nonce-08"
STORES = Path(__file__).parents[1] / "vectors" / "stores" / "operator-mock"

FULL_KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
READER_KEY = "UID2-C-L-123-t32pCM.5NCX1E94UgOd2f8zhsKmxzCoyhXohHYSSWR8U="
PUBLISHER_KEY = "UID2-C-L-124-H8VwqX.l2G4TCuUWYAqdqkeG/UqtFoPEoXirKn4kHWxc="
SHARER_KEY = "UID2-C-L-125-E5w9L8.T5og45yFqQeoj4ubh9IVqXcaSVwk7A5XyG958="
MAPPER_KEY = "UID2-C-L-126-GMP9tD.jn2o3vmXzn7vmKRlTT6BEUrPUaPJuQmDBdq38="
OPTOUT_KEY = "UID2-C-L-127-aHVydH.JlZnVzZWRmYXN0ZW5lbXliYWdpZGVudGl0eWU="
SERVICE_KEY = "UID2-C-L-126-Tv40pS./TtagASU9S0tIqDyBSh283pla4mDyHBZvw+OQ="


@dataclass(frozen=True)
class Asked:
    """`opener`: the key of a sealed 200; `framed`: whether time and nonce precede its JSON."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    opener: GcmKey | None = None
    framed: bool = True


@dataclass(frozen=True)
class Answer:
    """`document`: the JSON of the answer, opened where it is sealed; None where it is no JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    document: Any

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


@dataclass
class RecordingSink:
    fails: bool = False
    recorded: list[OptOutRequest] = field(default_factory=list)

    async def record(self, optout: OptOutRequest) -> None:
        if self.fails:
            raise DependencyError("the opt-out service answered 503")
        self.recorded.append(optout)


class Stage:
    """A fresh operator over one loaded snapshot."""

    def __init__(self, snapshot: OperatorSnapshot, settings: Mapping[str, Any]) -> None:
        self.clock = FixedClock(NOW)
        self.metrics = OperatorMetrics(self.clock)
        self.sink = RecordingSink()
        self.health = Health()
        self.health.component("http-server").recover()
        chosen = {"client_side_token_generate": True, **settings}
        self.context = OperatorContext(
            settings=settings_of(chosen),
            clock=self.clock,
            entropy=SystemEntropy(),
            snapshot=snapshot,
            optouts=OptOutView(empty_index(Environment.TEST)),
            metrics=self.metrics,
            lanes=Lanes(1, 1 << 24, 10),
            optout_sink=self.sink,
            spread_optout=self._spread,
        )
        self.app = operator_application(self.context, self.health)

    def close(self) -> None:
        self.context.lanes.close()

    def send(self, asked: Asked) -> Answer:
        status, headers, body = asyncio.run(self._exchange(asked))
        return Answer(status, headers, body, _document(asked, status, headers, body))

    def sealed(
        self, path: str, document: Any, key: str = FULL_KEY, *, binary: bool = False, headers: Mapping[str, str] = {}
    ) -> Asked:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        gcm = self.client(key).gcm
        sealed = seal_request(payload_of(document), NONCE, self.clock.now_ms(), gcm, bytes(12))
        if binary:
            fields["content-type"] = "application/octet-stream"
        body = sealed if binary else encode_base64(sealed).encode()
        return Asked("POST", path, {"authorization": f"Bearer {key}", **fields}, body, gcm)

    def document(self, path: str, document: Any, key: str = FULL_KEY) -> Any:
        """What a sealed request is answered; the answer must be 200."""
        answer = self.send(self.sealed(path, document, key))
        assert answer.status == 200, answer
        return answer.document

    def client(self, key: str) -> Client:
        client = self.context.snapshot.clients.find(key)
        assert client is not None
        return client

    def change_client(self, key: str, **members: Any) -> None:
        clients = type(self.context.snapshot.clients)([replace(self.client(key), **members)])
        self.exchange(clients=clients)

    def exchange(self, **members: Any) -> None:
        self.context.snapshot = replace(self.context.snapshot, **members)

    def runtime(self, **members: Any) -> None:
        self.exchange(runtime_config=replace(self.context.snapshot.runtime_config, **members))

    def without_keys(self, *keysets: int) -> None:
        ring = self.context.snapshot.key_ring
        self.exchange(key_ring=KeyRing(ring.keysets, [key for key in ring.keys if key.keyset_id not in keysets]))

    def first_level_hash(self, kind: InputKind, text: str) -> FirstLevelHash:
        identity_hash = identity_hash_from(kind, text)
        assert identity_hash is not None
        return first_level_hash(identity_hash, self.context.snapshot.salts.first_level)

    def opt_out(self, text: str, raw_uid: bytes = bytes(32), at: int = 1_700_000_000) -> None:
        """An e-mail address in the opt-out data."""
        flh = self.first_level_hash(InputKind.EMAIL, text)
        self.context.optouts = self.context.optouts.with_entries([(bytes(flh), raw_uid, at)])

    def metric(self, name: str, **labels: object) -> float:
        """The sum of a metric's series that have these labels; the count of a summary."""
        wanted = {(label, str(value)) for label, value in labels.items()}
        found = (family for family in self.metrics.state() if family["name"] == name)
        return sum(
            values[0]
            for family in found
            for key, values in family["series"]
            if wanted <= set(zip(family["labels"], key, strict=True))
        )

    async def _spread(self, optout: OptOutRequest) -> None:
        entry = (bytes(optout.first_level_hash), bytes(optout.raw_uid), int(optout.at))
        self.context.optouts = self.context.optouts.with_entries([entry])

    async def _exchange(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        sent: list[MutableMapping[str, Any]] = []
        path, _, query = asked.path.partition("?")
        scope = {
            "type": "http",
            "method": asked.method,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers.items()
            ],
            "client": ("192.0.2.1", 40000),
            "scheme": "http",
        }

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": asked.body, "more_body": False}

        async def send(event: MutableMapping[str, Any]) -> None:
            sent.append(event)

        await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(event["body"] for event in sent[1:])


def payload_of(document: Any) -> bytes:
    if document is None:
        return b""
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def _document(asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    content_type = headers.get("content-type")
    if content_type == "application/json":
        return json.loads(body)
    if status != 200 or asked.opener is None:
        return None
    blob = body if content_type == "application/octet-stream" else decode_base64(body)
    if not asked.framed:
        return json.loads(asked.opener.open(blob))
    opened = open_response(blob, asked.opener)
    assert opened.nonce == NONCE
    return json.loads(opened.payload)


class _Prefixless:
    """The sample metadata name their files below a prefix of the reference's package."""

    def __init__(self, root: Path) -> None:
        self._files = LocalSource(root)

    def read(self, path: str, limit: int = 1 << 31) -> bytes:
        return self._files.read(path.removeprefix("/com.uid2.core/test/"), limit)

    def list(self, prefix: str) -> list[str]:
        return self._files.list(prefix)


def sample_snapshot() -> OperatorSnapshot:
    source = _Prefixless(STORES)
    loaders = [
        StoreLoader(kind, source, f"{name}/metadata.json", lambda: NOW)
        for name, kind in KINDS.items()
        if (STORES / name / "metadata.json").exists()
    ]
    return StoreRefresher(loaders, now=lambda: NOW, monotonic=lambda: 0.0).load_all()
