"""Core on the sample stores, called in this process: no socket, a clock that stands still."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.core.assembly import core_context
from uid2.core.context import CoreContext
from uid2.core.metric_names import CoreMetrics
from uid2.core.routes import core_application
from uid2.core.settings import ACCEPTED, KEYS, settings_of
from uid2.core.verifiers.interface import Attested, Evidence, Verifiers
from uid2.core.verifiers.trusted import TRUSTED, TrustedVerifier
from uid2.protocol.attest_messages import AttestRequest, AttestResponse, encode_attest_request, parse_attest_response
from uid2.protocol.crypto.rsa import public_der, unwrap
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.health import Health
from uid2.service.messages import Headers, Request, Response

STORES = Path(__file__).parents[2] / "vectors" / "stores"
NOW = EpochMillis(1_750_000_000_000)
PUBLIC = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
PRIVATE = "OPLCLAjLRWcVlCDl9+BbwR38gzxYdiWFa751ynWLuI7JU4iA="
PUBLIC_124 = "UID2-O-L-124-cr24Bt.dYP+Wpo6NWlP7CbvwpzHn0lXS3Cst6Y+qFDK4="
NITRO = "UID2-O-L-124-aws-operator-key"
GCP = "UID2-O-L-124-gcp-operator-key"
OPTOUT = "UID2-O-L-127-pDqphU.6FuXzThQMY8YEsCA8crqvAlzyGrjcF8P6XO84="
DISABLED = "UID2-O-L-998-d1sabledKeyForE2ETestOnly00000000000000000000="
CORE_URL = "http://core:8088"
RSA_KEY = rsa.generate_private_key(65537, 2048)
PUBLIC_KEY = public_der(RSA_KEY)


class ScriptedVerifier:
    """Accepts, or raises what it was told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.seen: list[Evidence] = []

    async def verify(self, evidence: Evidence, now: EpochSeconds) -> Attested:
        self.seen.append(evidence)
        if self.error is not None:
            raise self.error
        return Attested("4f" * 32, {"mr_enclave": "4f" * 32, "root": "TEST", "status": "UpToDate"})


class Core:
    """One Core; `settings` are members of a configuration file."""

    def __init__(self, folder: Path, scripted: ScriptedVerifier | None, **settings: Any) -> None:
        members = {
            "core_s3_bucket": f"file://{folder / 'bucket'}",
            "att_token_enc_key": "<key-for-attestation-token>",
            "att_token_enc_salt": "<salt-for-attestation-token>",
            "att_token_lifetime_seconds": 1200,
            "provide_private_site_data": True,
            "core_public_url": CORE_URL,
            "optout_url": "http://optout:8081",
            "jwt_signing_key_file": str(STORES / "jwt/jwt_signing_private_key.pem"),
        } | settings
        file = folder / "core.json"
        file.write_text(json.dumps({name: value for name, value in members.items() if value is not None}))
        self.settings = settings_of(load_configuration(KEYS, file, {}, accepted=ACCEPTED))
        self.bucket = folder / "bucket"
        self.clock = FixedClock(NOW)
        self.metrics = CoreMetrics(self.clock)
        self.health = Health()
        verifiers: Verifiers | None = None if scripted is None else {TRUSTED: TrustedVerifier(), "azure-sgx": scripted}
        self.context: CoreContext = core_context(
            self.settings, self.clock, SystemEntropy(), self.metrics, self.health, verifiers
        )
        self.application = core_application(self.context, self.health)

    def load(self) -> None:
        asyncio.run(self.context.own.load())

    def call(
        self,
        method: str,
        path: str,
        key: str | None = None,
        *,
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        fields = dict(headers or {})
        if key is not None:
            fields["authorization"] = f"Bearer {key}"
        request = Request(method, path, query or {}, Headers.of(fields), body, client="192.0.2.7", host="called:8088")
        return asyncio.run(self.application.respond(request))

    def get(self, path: str, key: str | None = None, **headers: str) -> Response:
        return self.call("GET", path, key, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def attest(self, key: str | None, headers: Mapping[str, str] | None = None, **changed: Any) -> Response:
        given: dict[str, Any] = {"evidence": b"\0", "public_key": PUBLIC_KEY, "application_name": "uid2-operator"}
        body = encode_attest_request(AttestRequest(**(given | changed)))
        return self.call("POST", "/attest", key, body=body, headers=headers)


def attested(response: Response) -> tuple[str, AttestResponse]:
    """The token and the answer of an accepted attestation."""
    assert response.status == 200, response.body
    answer = parse_attest_response(response.body)
    return unwrap(RSA_KEY, answer.attestation_token).decode(), answer


def members(response: Response) -> dict[str, Any]:
    assert response.content_type == "application/json"
    document: dict[str, Any] = json.loads(response.body)
    return document
