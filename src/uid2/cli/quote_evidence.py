"""Evidence of a running operator, for `uid2 quote verify --url`: fetched with a fresh nonce, held against a record."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, DependencyError
from uid2.protocol.json_text import parse_object

if TYPE_CHECKING:
    from uid2.attestation.verify import VerifiedQuote

EVIDENCE_PATH: Final = "/ops/evidence"
NONCE_LENGTH: Final = 32
LARGEST_ANSWER: Final = 1 << 20
TIMEOUT_SECONDS: Final = 30.0
_HEX_DIGEST: Final = 64


@dataclass(frozen=True, slots=True)
class EvidenceAnswer:
    """What /ops/evidence answered. Only what the quote covers is proved: the nonce and the configuration's digest."""

    quote: bytes = field(repr=False)
    nonce: bytes
    version: str
    platform: str
    configuration_digest: bytes
    record_digest: str | None


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """The published identity of a build; `digest` is the SHA-256 of the file."""

    mr_enclave: str
    product_id: int | None
    svn: int | None
    digest: str


class EvidenceError(ClientInputError):
    """Evidence that does not prove what it should."""


def fetch_evidence(url: str, nonce: bytes) -> EvidenceAnswer:
    """Asks the ops listener at `url`. DependencyError: unreachable, refused or unusable answer."""
    import httpx

    address = url.rstrip("/")
    address = address if address.endswith(EVIDENCE_PATH) else address + EVIDENCE_PATH
    body = msgspec.json.encode({"nonce": encode_base64(nonce)})
    try:
        answer = httpx.post(address, content=body, timeout=TIMEOUT_SECONDS, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise DependencyError(
            f"{address} cannot be reached: {type(error).__name__}",
            next_step="give the address of the operator's ops listener, such as http://127.0.0.1:9091",
        ) from None
    if answer.status_code != 200 or len(answer.content) > LARGEST_ANSWER:
        raise DependencyError(
            f"{address} answered {answer.status_code}{_message(answer.content)}",
            next_step="only an operator in a TEE has evidence; after 429 wait two seconds",
        )
    return parse_evidence_answer(answer.content)


def parse_evidence_answer(body: bytes) -> EvidenceAnswer:
    """The answer of a body; DependencyError names the member that is wrong."""
    try:
        members: Any = parse_object(body).get("body")
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise _unusable("it is no JSON object with a body")
    try:
        return EvidenceAnswer(
            quote=decode_base64(_text(members, "quote")),
            nonce=decode_base64(_text(members, "nonce")),
            version=_text(members, "version"),
            platform=_text(members, "platform"),
            configuration_digest=_digest(members),
            record_digest=members.get("record_digest") if isinstance(members.get("record_digest"), str) else None,
        )
    except ValueError as error:
        raise _unusable(str(error)) from None


def read_identity_record(path: Path) -> IdentityRecord:
    """The record of a file; EvidenceError when it names no MRENCLAVE."""
    try:
        data = path.read_bytes()
        document = parse_object(data)
    except OSError as error:
        raise EvidenceError(
            f"cannot read {path}: {error.strerror}", next_step="name the build's identity.json"
        ) from None
    except ValueError:
        raise EvidenceError(f"{path} is not a JSON object", next_step="name the build's identity.json") from None
    names = {name.lower().replace("_", ""): value for name, value in document.items()}
    mr_enclave = names.get("mrenclave")
    if not isinstance(mr_enclave, str) or len(mr_enclave) != _HEX_DIGEST:
        raise EvidenceError(f"{path} holds no mr_enclave of 64 hex digits", next_step="name the build's identity.json")
    return IdentityRecord(
        mr_enclave.lower(),
        _number(names, "productid", "isvprodid", "prodid"),
        _number(names, "svn", "isvsvn"),
        hashlib.sha256(data).hexdigest(),
    )


def check_evidence(verified: "VerifiedQuote", answer: EvidenceAnswer, nonce: bytes, record: IdentityRecord) -> None:
    """EvidenceError unless the quote answers this nonce and comes from the recorded enclave.

    AttestationError comes from the verification of the quote, which is done before.
    """
    from uid2.attestation.binding import evidence_report_data

    if answer.nonce != nonce:
        raise EvidenceError("the answer is for another nonce: it was made before", next_step="ask again")
    if bytes(verified.report_data) != evidence_report_data(nonce, answer.configuration_digest):
        raise EvidenceError(
            "the quote was not made for this nonce and configuration; a replay, or a quote from /attest",
            next_step="ask the operator itself, and do not trust what answered",
        )
    check_identity(verified, record)
    if answer.record_digest is not None and answer.record_digest != record.digest:
        raise EvidenceError(
            "the operator names another record than this file", next_step="fetch the record of the running build"
        )


def check_identity(verified: "VerifiedQuote", record: IdentityRecord) -> None:
    """EvidenceError unless the quote is of the recorded enclave."""
    if verified.mr_enclave.lower() != record.mr_enclave:
        raise EvidenceError(
            f"MRENCLAVE {verified.mr_enclave} is not the record's {record.mr_enclave}",
            next_step="compare with the record of the build that runs there",
        )
    for name, quoted, recorded in (
        ("product id", verified.product_id, record.product_id),
        ("SVN", verified.svn, record.svn),
    ):
        if recorded is not None and quoted != recorded:
            raise EvidenceError(f"{name} {quoted} is not the record's {recorded}", next_step="compare the builds")


def verdict_lines(verified: "VerifiedQuote", answer: EvidenceAnswer, record: IdentityRecord) -> list[str]:
    """Ten lines for an auditor, after every check has passed."""
    return _lines(
        *_identity_rows(verified, "this operator runs the recorded enclave"),
        ("freshness", "nonce made here and quoted there"),
        ("configuration", f"sha256 {answer.configuration_digest.hex()} (quoted)"),
        ("version", f"{answer.version} (told, not quoted)"),
        ("record", f"sha256 {record.digest}"),
    )


def file_verdict_lines(verified: "VerifiedQuote", record: IdentityRecord) -> list[str]:
    """Ten lines about a quote that lies in a file: nobody was asked, so it says nothing of who runs now."""
    return _lines(
        *_identity_rows(verified, "this quote is of the recorded enclave"),
        ("freshness", "NOT SHOWN: a file may be of any age; ask the operator itself with --url"),
        ("report data", f"{verified.report_data.hex()} (not judged)"),
        ("platform", f"FMSPC {verified.fmspc}, collateral of evaluation number {verified.evaluation_number}"),
        ("record", f"sha256 {record.digest}"),
    )


def _identity_rows(verified: "VerifiedQuote", finding: str) -> list[tuple[str, str]]:
    genuine = verified.root_kind == "intel"
    root = "root=intel" if genuine else "root=TEST: A SIMULATED PLATFORM, which anybody can make"
    return [
        ("verdict", f"GENUINE: {finding}" if genuine else f"TEST ONLY, of no worth as proof: {finding}"),
        ("root of trust", root),
        ("MRENCLAVE", f"{verified.mr_enclave} (as recorded)"),
        ("product, SVN", f"{verified.product_id}, {verified.svn}"),
        (
            "TCB status",
            f"{verified.status} (platform {verified.platform_status}, quoting enclave {verified.qe_status})",
        ),
        ("advisories", ", ".join(verified.advisories) or "none"),
    ]


def _lines(*rows: tuple[str, str]) -> list[str]:
    return [f"{name:<14} {value}" for name, value in rows]


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _digest(members: dict[str, Any]) -> bytes:
    digest = bytes.fromhex(_text(members, "configuration_digest"))
    if len(digest) * 2 != _HEX_DIGEST:
        raise ValueError("configuration_digest has not 32 bytes")
    return digest


def _number(names: dict[str, Any], *wanted: str) -> int | None:
    for name in wanted:
        if type(names.get(name)) is int:
            return int(names[name])
    return None


def _message(body: bytes) -> str:
    try:
        message = parse_object(body[:4096]).get("message")
    except ValueError:
        return ""
    return f": {message[:200]}" if isinstance(message, str) and message.isprintable() else ""


def _unusable(why: str) -> DependencyError:
    return DependencyError(
        f"the answer of {EVIDENCE_PATH} is unusable: {why}", next_step="check that the address is an operator's"
    )
