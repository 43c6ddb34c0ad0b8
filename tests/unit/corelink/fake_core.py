"""A Core of few words on a real socket: it grants, serves the sample stores, and notes every call."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec

from uid2.protocol.attest_messages import (
    AttestResponse,
    Challenge,
    encode_attest_response,
    encode_challenge,
    parse_attest_request,
)
from uid2.protocol.crypto.rsa import wrap
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock
from uid2.service.http import request_of
from uid2.service.messages import Request, Response, json_response
from uid2.service.server import HttpServer, bind_socket

STORES = Path(__file__).parents[2] / "vectors" / "stores"
ENDPOINTS = {
    "/sites/refresh": ("sites", "sites"),
    "/clients/refresh": ("clients", "client_keys"),
    "/client_side_keypairs/refresh": ("client_side_keypairs", "client_side_keypairs"),
    "/services/refresh": ("services", "services"),
    "/service_links/refresh": ("service_links", "service_links"),
    "/key/keyset/refresh": ("keysets", "keysets"),
    "/key/keyset-keys/refresh": ("keyset_keys", "keyset_keys"),
    "/salt/refresh": ("salts", "salts"),
}
Reply = Callable[[Request], Response | None]


@dataclass
class FakeCore:
    """`replies` by path come first; None from one falls back to what a working Core answers."""

    clock: FixedClock
    lifetime_ms: int = 7_200_000
    skew_ms: int = 0
    with_date: bool = True
    site_id: int = 999
    optout_url: str | None = "http://optout.example"
    jwt_core: str | None = None
    jwt_optout: str | None = None
    challenge_status: int = 404
    replies: dict[str, Reply] = field(default_factory=dict)
    calls: list[Request] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    nonces: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: HttpServer | None = None
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def attest_url(self) -> str:
        return f"{self.origin}/attest"

    @property
    def attestations(self) -> list[Request]:
        return [call for call in self.calls if call.path == "/attest"]

    def start(self) -> None:
        self._in_loop(self._start())

    def stop(self) -> None:
        """No new connections, those there are closed; `start` opens the same port again."""
        if self._server is not None:
            self._in_loop(self._server.stop(0.1))
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def forget_tokens(self) -> None:
        self.tokens.clear()

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        listener = bind_socket("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        self._server = HttpServer(self._serve, [listener])
        await self._server.start()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        request = request_of(scope)
        more = True
        while more:
            event = await receive()
            request.body += event.get("body", b"")
            more = event.get("more_body", False)
        self.calls.append(request)
        response = self._answer(request)
        fields = [(b"content-length", b"%d" % len(response.body))]
        if self.with_date:
            seconds = (self.clock.now_ms() + self.skew_ms) // 1000
            fields.append((b"date", formatdate(seconds, usegmt=True).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": fields})
        await send({"type": "http.response.body", "body": response.body})

    def _answer(self, request: Request) -> Response:
        reply = self.replies.get(request.path)
        response = None if reply is None else reply(request)
        if response is not None:
            return response
        if request.path == "/attest":
            return self.grant(request)
        if request.path == "/attest/challenge":
            return self._challenge()
        if request.path.startswith("/content/"):
            return Response(200, (STORES / request.path.removeprefix("/content/")).read_bytes())
        if request.header("attestation-token") not in self.tokens:
            return json_response(401, {"status": "unauthorized", "reason": "insufficient_role"})
        return self._refresh(request)

    def grant(self, request: Request) -> Response:
        token = f"dG9rZW4=-{len(self.attestations)}-g"
        self.tokens.add(token)
        asked = parse_attest_request(request.body)
        answer = AttestResponse(
            wrap(asked.public_key, token.encode()),
            EpochMillis(self.clock.now_ms() + self.skew_ms + self.lifetime_ms),
            self.optout_url,
            self.jwt_optout,
            self.jwt_core,
        )
        return Response(200, encode_attest_response(answer))

    def _challenge(self) -> Response:
        if self.challenge_status != 200:
            return Response(self.challenge_status, b"<html></html>")
        nonce = bytes([len(self.nonces) + 1]) * 32
        self.nonces.append(nonce)
        return Response(200, encode_challenge(Challenge(nonce)))

    def _refresh(self, request: Request) -> Response:
        encrypted = request.header("encrypted") == "true"
        if request.path == "/cloud_encryption_keys/retrieve":
            keys = json.loads((STORES / "cloud_encryption_keys/cloud_encryption_keys.json").read_bytes())
            mine = [key for key in keys if key["siteId"] == self.site_id]
            return json_response(200, {"cloud_encryption_keys": mine})
        if request.path == "/operator/config":
            return Response(200, (STORES / "operator/operator-config.json").read_bytes())
        store, member = ENDPOINTS[request.path]
        folder = f"{store}/encrypted/{self.site_id}_public" if encrypted and "service" not in store else store
        document = msgspec.json.decode((STORES / folder / "metadata.json").read_bytes())
        held = document[member]
        for entry in held if isinstance(held, list) else [held]:
            entry["location"] = f"{self.origin}/content/{entry['location']}?signature=secret"
        return json_response(200, document)
