"""POST /ops/evidence: what is quoted, what is refused, how often."""

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from uid2.attestation.binding import evidence_report_data
from uid2.operator.evidence import BURST, EvidenceEndpoint, configuration_digest, record_digest
from uid2.operator.metric_names import OperatorMetrics
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.service.clock import FixedClock
from uid2.service.messages import Request, Response

NONCE = bytes(range(32))
DIGEST = configuration_digest({"b": 1, "a": "é"})


@dataclass
class Quotes:
    kind: str = "fake"
    asked: list[bytes] = field(default_factory=list)
    error: Exception | None = None

    def quote(self, report_data: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        self.asked.append(report_data)
        return b"quote" + report_data


def ask(endpoint: EvidenceEndpoint, body: Any) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(endpoint.handle(Request("POST", "/ops/evidence", body=data)))


def endpoint_of(quotes: Quotes | None, clock: FixedClock | None = None) -> EvidenceEndpoint:
    clock = clock or FixedClock()
    return EvidenceEndpoint(quotes, "5.70.250", DIGEST, "ab" * 32, clock, OperatorMetrics(clock))


def test_the_quote_is_over_nonce_and_configuration() -> None:
    quotes = Quotes()
    response = ask(endpoint_of(quotes), {"nonce": base64.b64encode(NONCE).decode()})
    document = json.loads(response.body)
    assert (response.status, document["status"]) == (200, "success")
    assert quotes.asked == [evidence_report_data(NONCE, DIGEST)]
    assert document["body"] == {
        "quote": base64.b64encode(b"quote" + quotes.asked[0]).decode(),
        "nonce": base64.b64encode(NONCE).decode(),
        "version": "5.70.250",
        "platform": "fake",
        "configuration_digest": DIGEST.hex(),
        "record_digest": "ab" * 32,
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", {"nonce": None}, {"nonce": 7}, {"nonce": "?"}, {"nonce": "AAAA"}, {"nonce": "A" * 88 + "AAAA"}],
)
def test_a_request_without_a_usable_nonce_is_refused(body: Any) -> None:
    quotes = Quotes()
    response = ask(endpoint_of(quotes), body)
    assert (response.status, quotes.asked) == (400, [])
    assert b"base64 of 16 to 64 bytes" in response.body


def test_it_is_rate_limited() -> None:
    clock, quotes = FixedClock(), Quotes()
    endpoint, body = endpoint_of(quotes, clock), {"nonce": base64.b64encode(NONCE).decode()}
    assert [ask(endpoint, body).status for _ in range(BURST + 1)] == [200] * BURST + [429]
    assert dict(ask(endpoint, body).headers)["retry-after"] == "3"
    clock.advance(2000)
    assert [ask(endpoint, body).status for _ in range(2)] == [200, 429]


def test_without_a_tee_there_is_no_evidence() -> None:
    assert ask(endpoint_of(None), {"nonce": base64.b64encode(NONCE).decode()}).status == 404


def test_a_quoting_service_that_fails_is_no_fault_of_the_program() -> None:
    response = ask(endpoint_of(Quotes(error=DependencyError("0xE019"))), {"nonce": base64.b64encode(NONCE).decode()})
    assert (response.status, b"0xE019" in response.body) == (503, True)


def test_the_digest_of_a_configuration_is_that_of_its_sorted_json() -> None:
    assert hashlib.sha256('{"a":"é","b":1}'.encode()).digest() == DIGEST
    assert configuration_digest({"b": 2, "a": "é"}) != DIGEST


def test_the_record_is_read_once_and_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    with pytest.raises(ConfigurationError, match="identity_record"):
        record_digest(file)
    file.write_bytes(b"{}")
    assert record_digest(file) == hashlib.sha256(b"{}").hexdigest()
    assert record_digest(None) is None
