"""Turns a generated document into the bytes of a request: sealed so that it gets past the cryptography, or raw."""

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from schemathesis.core import NotSet

from running_stack import Stack
from uid2.devstack.state import keyset_keys_file, read_credentials
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.crypto.ecdh import shared_secret
from uid2.protocol.cstg import load_server_public_key, seal_cstg_payload
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import seal_request
from uid2.protocol.ids import REFRESH_KEYSET, EpochMillis
from uid2.protocol.keysets import parse_keyset_keys

BINARY = "application/octet-stream"
WRAPPED_PLAINTEXT = 258
VALID = {
    "email": "someone@example.com",
    "email_hash": "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ=",
    "phone": "+14155550100",
    "phone_hash": "wdN1alhrbw1Bmz49GzKGdPvGxLhCNn7n3teAOQ/FSK4=",
}
ENVELOPE_ERRORS = (
    "Invalid body",
    "Invalid timestamp",
    "Invalid data: Check encryption method",
    "payload decryption failed",
    "bad public key",
    "bad iv",
    "bad subscription_id",
)


@dataclass
class Tally:
    """`opened`: sealed requests that got past the envelope."""

    sent: int = 0
    sealed: int = 0
    opened: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def add(self, answer: httpx.Response, sealed: bool) -> None:
        self.sent += 1
        self.statuses[str(answer.status_code)] += 1
        self.slowest = max(self.slowest, answer.elapsed.total_seconds())
        if sealed:
            self.sealed += 1
            message = (
                answer.json().get("message", "") if answer.headers.get("content-type") == "application/json" else ""
            )
            self.opened += answer.status_code == 200 or not any(str(message).startswith(e) for e in ENVELOPE_ERRORS)


class Sealer:
    def __init__(self, stack: Stack) -> None:
        self.authorization = {"Authorization": f"Bearer {stack.key}"}
        self.secret = GcmKey(decode_base64(stack.secret))
        self.credentials = read_credentials(stack.state, stack.scope)
        keys = parse_keyset_keys(keyset_keys_file(stack.state).read_bytes())
        self.refresh_key = next(key for key in keys if key.keyset_id == REFRESH_KEYSET)

    def seal(self, kind: str, body: Any, turn: int) -> tuple[bytes, dict[str, str]]:
        """Bytes and headers; every other turn goes out in binary where that makes a difference."""
        document = document_bytes(enlivened(body, turn))
        if kind == "client-secret":
            envelope = seal_request(document, os.urandom(8), _now(), self.secret, os.urandom(12))
            if turn % 2:
                return envelope, {**self.authorization, "Content-Type": BINARY}
            return encode_base64(envelope).encode(), self.authorization
        if kind == "response-key":
            return self._wrapped(body), self.authorization if turn % 2 else {}
        return self._exchanged(document, turn), {"Origin": "https://localhost:8080"}

    def _wrapped(self, body: Any) -> bytes:
        """A wrapped refresh token of the right length whose inner token is the generated text."""
        inner = body if isinstance(body, str) else document_bytes(body).decode("utf-8", "replace")
        for length in range(min(len(inner), 168), -1, -1):
            members = {"refresh_response_key": encode_base64(bytes(32)), "refresh_token": inner[:length]}
            plaintext = json.dumps(members, separators=(",", ":")).encode()
            if len(plaintext) <= WRAPPED_PLAINTEXT:
                break
        head = b"\0" + self.refresh_key.id.to_bytes(4, "big")
        sealed = self.refresh_key.gcm.seal(os.urandom(12), plaintext.ljust(WRAPPED_PLAINTEXT))
        return encode_base64(head + sealed).encode()

    def _exchanged(self, document: bytes, turn: int) -> bytes:
        """A client-side request after a real key exchange; `document` is what stands inside."""
        private = ec.generate_private_key(ec.SECP256R1())
        server = load_server_public_key(self.credentials.client_side_public_key)
        key = GcmKey(shared_secret(private, server))
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        iv = os.urandom(12)
        app_name = "com.example.demo" if turn % 2 else None
        now = _now()
        members: dict[str, Any] = {
            "subscription_id": self.credentials.subscription_id,
            "public_key": encode_base64(public),
            "timestamp": now,
            "iv": encode_base64(iv),
            "payload": seal_cstg_payload(document, iv, key, now, app_name),
        }
        if app_name is not None:
            members["app_name"] = app_name
        return json.dumps(members).encode()


def enlivened(body: Any, turn: int) -> Any:
    """Every third document gets well-formed identities in its identity members, so that handlers go all the way."""
    if turn % 3 or not isinstance(body, dict):
        return body
    filled = dict(body)
    for name, value in VALID.items():
        if isinstance(body.get(name), str):
            filled[name] = value
        elif isinstance(body.get(name), list):
            filled[name] = [value, *body[name]]
    return filled


def document_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, NotSet):
        return b""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _now() -> EpochMillis:
    return EpochMillis(time.time_ns() // 1_000_000)
