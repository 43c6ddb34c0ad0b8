"""Evidence of a running operator: what is accepted, and each way in which it may deceive."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from uid2.attestation.binding import evidence_report_data, report_data_v1
from uid2.cli.quote_evidence import (
    EvidenceAnswer,
    EvidenceError,
    check_evidence,
    parse_evidence_answer,
    read_identity_record,
    verdict_lines,
)
from uid2.protocol.errors import DependencyError

NONCE, OTHER = bytes(range(32)), bytes(32)
DIGEST = hashlib.sha256(b"configuration").digest()
MR_ENCLAVE = "4f" * 32
ANSWER = EvidenceAnswer(b"quote", NONCE, "5.70.250", "occlum", DIGEST, None)


@dataclass(frozen=True)
class Verified:
    """What a verified quote says, as far as it counts here."""

    mr_enclave: str = MR_ENCLAVE
    product_id: int = 770
    svn: int = 2
    report_data: bytes = evidence_report_data(NONCE, DIGEST)
    status: str = "UpToDate"
    platform_status: str = "UpToDate"
    qe_status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    root_kind: str = "TEST"


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Any]:
    def write(**members: Any) -> Any:
        file = tmp_path / "identity.json"
        file.write_text(json.dumps({"mr_enclave": MR_ENCLAVE, "product_id": 770, "svn": 2} | members))
        return read_identity_record(file)

    return write


def body(**members: Any) -> bytes:
    document = {
        "quote": base64.b64encode(b"quote").decode(),
        "nonce": base64.b64encode(NONCE).decode(),
        "version": "5.70.250",
        "platform": "occlum",
        "configuration_digest": DIGEST.hex(),
        "record_digest": None,
    }
    return json.dumps({"status": "success", "body": document | members}).encode()


def test_an_answer_is_read() -> None:
    assert parse_evidence_answer(body()) == ANSWER


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        body(quote=None),
        body(quote="?"),
        body(nonce=1),
        body(version=2),
        body(configuration_digest="ab"),
        body(configuration_digest="zz" * 32),
    ],
)
def test_an_unusable_answer_is_refused(data: bytes) -> None:
    with pytest.raises(DependencyError, match="unusable"):
        parse_evidence_answer(data)


def test_the_verdict_has_ten_lines(record: Callable[..., Any]) -> None:
    verified: Any = Verified()
    check_evidence(verified, ANSWER, NONCE, record())
    lines = verdict_lines(verified, ANSWER, record())
    assert len(lines) == 10
    text = "\n".join(lines)
    assert all(part in text for part in ("TEST ONLY", "root=TEST", MR_ENCLAVE, DIGEST.hex(), "770, 2"))
    assert "GENUINE" not in text


def test_only_intels_root_makes_a_quote_genuine(record: Callable[..., Any]) -> None:
    verified: Any = Verified(root_kind="intel")
    text = "\n".join(verdict_lines(verified, ANSWER, record()))
    assert "GENUINE" in text
    assert "root=intel" in text
    assert "TEST" not in text


@pytest.mark.parametrize(
    ("verified", "answer", "nonce", "members", "words"),
    [
        ({}, {}, OTHER, {}, "another nonce"),
        ({}, {"nonce": OTHER}, OTHER, {}, "replay"),
        ({"report_data": evidence_report_data(OTHER, DIGEST)}, {}, NONCE, {}, "replay"),
        ({"report_data": report_data_v1(b"key")}, {}, NONCE, {}, "from /attest"),
        ({}, {"configuration_digest": bytes(32)}, NONCE, {}, "configuration"),
        ({"mr_enclave": "50" * 32}, {}, NONCE, {}, "MRENCLAVE"),
        ({}, {}, NONCE, {"mr_enclave": "50" * 32}, "MRENCLAVE"),
        ({}, {}, NONCE, {"product_id": 771}, "product id 770"),
        ({}, {}, NONCE, {"svn": 3}, "SVN 2"),
        ({}, {"record_digest": "ab" * 32}, NONCE, {}, "another record"),
    ],
)
def test_what_does_not_fit_is_refused(
    record: Callable[..., Any],
    verified: dict[str, Any],
    answer: dict[str, Any],
    nonce: bytes,
    members: dict[str, Any],
    words: str,
) -> None:
    quoted: Any = Verified(**verified)
    with pytest.raises(EvidenceError, match=words):
        check_evidence(quoted, replace(ANSWER, **answer), nonce, record(**members))


@pytest.mark.parametrize("name", ["mr_enclave", "MRENCLAVE", "mrenclave"])
def test_a_record_names_its_measurement(tmp_path: Path, name: str) -> None:
    file = tmp_path / "identity.json"
    file.write_text(json.dumps({name: MR_ENCLAVE.upper(), "isv_prod_id": 770, "isv_svn": 2}))
    record = read_identity_record(file)
    assert (record.mr_enclave, record.product_id, record.svn) == (MR_ENCLAVE, 770, 2)
    assert record.digest == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mr_enclave": "4f"}', '{"mr_enclave": 7}'])
def test_a_record_without_a_measurement_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "identity.json"
    file.write_text(text)
    with pytest.raises(EvidenceError, match=r"identity\.json"):
        read_identity_record(file)
