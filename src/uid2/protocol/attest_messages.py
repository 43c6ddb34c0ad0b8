"""Bodies of /attest and /attest/challenge (core chapter, 4.1 and 4.2; design, 11.1 and 11.2).

Both sides read them here. A success is `{"status":"success","body":{…}}`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, DependencyError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.json_text import parse_object

NOT_JSON: Final = "request body is not a valid json"
NO_EVIDENCE: Final = "no attestation_request attached"
NONCE_LENGTH: Final = 32
REPORT_DATA_VERSIONS: Final = (1, 2)
_TOKEN_ENDING: Final = b"-g"
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


class AttestRequestError(ClientInputError):
    """A request that is not evaluated at all; the message is the `status` of the answer, 400."""


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """`evidence` is a quote or, for trusted keys, one zero byte; `public_key` is SubjectPublicKeyInfo DER."""

    evidence: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    application_name: str | None = None
    application_version: str | None = None
    operator_type: str | None = None
    components: Mapping[str, str] = field(default_factory=dict)
    report_data_version: int = 1
    nonce: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AttestResponse:
    """`attestation_token`: RSA ciphertext, or the text of a token where the protocol yields no key."""

    attestation_token: bytes = field(repr=False)
    expires_at: EpochMillis
    optout_url: str | None = None
    jwt_optout: str | None = field(default=None, repr=False)
    jwt_core: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce of 32 bytes that lives `expires_in` seconds, and the report data versions that Core knows."""

    nonce: bytes = field(repr=False)
    versions: tuple[int, ...] = REPORT_DATA_VERSIONS
    expires_in: int = 60


def encode_attest_request(request: AttestRequest) -> bytes:
    document: dict[str, Any] = {
        "attestation_request": encode_base64(request.evidence),
        "public_key": encode_base64(request.public_key),
        "application_name": request.application_name,
        "application_version": request.application_version,
        "operator_type": request.operator_type,
        "components": dict(request.components),
    }
    if request.report_data_version != 1:
        document["report_data_version"] = request.report_data_version
    if request.nonce is not None:
        document["nonce"] = encode_base64(request.nonce)
    return msgspec.json.encode({name: value for name, value in document.items() if value is not None})


def parse_attest_request(body: bytes) -> AttestRequest:
    """The request of a body; AttestRequestError says what is wrong. The key is not looked into."""
    if not body.strip():
        raise AttestRequestError(NO_EVIDENCE)
    try:
        document = parse_object(body)
    except ValueError:
        raise AttestRequestError(NOT_JSON) from None
    evidence = _text(document, "attestation_request")
    if not evidence:
        raise AttestRequestError(NO_EVIDENCE)
    version = document.get("report_data_version", 1)
    if version not in REPORT_DATA_VERSIONS or isinstance(version, bool | float):
        raise AttestRequestError("report_data_version must be 1 or 2")
    nonce = _text(document, "nonce")
    if version >= 2 and nonce is None:
        raise AttestRequestError("report_data_version 2 needs the nonce of /attest/challenge")
    components = document.get("components") or {}
    if not isinstance(components, dict):
        raise AttestRequestError("components must be an object")
    return AttestRequest(
        evidence=_decoded("attestation_request", evidence),
        public_key=_decoded("public_key", _text(document, "public_key") or ""),
        application_name=_text(document, "application_name"),
        application_version=_text(document, "application_version"),
        operator_type=_text(document, "operator_type"),
        components={name: value for name, value in components.items() if isinstance(value, str)},
        report_data_version=version,
        nonce=None if nonce is None else _nonce(nonce),
    )


def encode_attest_response(response: AttestResponse) -> bytes:
    token = response.attestation_token
    bare = token.isascii() and token.endswith(_TOKEN_ENDING)
    body: dict[str, Any] = {
        "attestation_token": token.decode() if bare else encode_base64(token),
        "expiresAt": instant_text(response.expires_at),
        "optout_url": response.optout_url,
    }
    if response.jwt_optout is not None:
        body["attestation_jwt_optout"] = response.jwt_optout
    if response.jwt_core is not None:
        body["attestation_jwt_core"] = response.jwt_core
    return msgspec.json.encode({"status": "success", "body": body})


def parse_attest_response(body: bytes) -> AttestResponse:
    """The answer of Core; DependencyError names the member that is missing or wrong."""
    members = _success_body(body, "/attest")
    token, expires = members.get("attestation_token"), members.get("expiresAt")
    if not isinstance(token, str) or not token or not isinstance(expires, str):
        raise _bad_answer("/attest", "attestation_token and expiresAt must be texts")
    if token.endswith(_TOKEN_ENDING.decode()):
        token_bytes = token.encode()
    else:
        try:
            token_bytes = decode_base64(token)
        except ValueError:
            raise _bad_answer("/attest", "attestation_token is not base64") from None
    return AttestResponse(
        token_bytes,
        _instant(expires),
        _optional_text(members, "optout_url"),
        _optional_text(members, "attestation_jwt_optout"),
        _optional_text(members, "attestation_jwt_core"),
    )


def encode_challenge(challenge: Challenge) -> bytes:
    body = {
        "nonce": encode_base64(challenge.nonce),
        "versions": list(challenge.versions),
        "expires_in": challenge.expires_in,
    }
    return msgspec.json.encode({"status": "success", "body": body})


def parse_challenge(body: bytes) -> Challenge:
    """The answer of /attest/challenge; DependencyError names the member that is missing or wrong."""
    members = _success_body(body, "/attest/challenge")
    nonce, versions, expires_in = (members.get(name) for name in ("nonce", "versions", "expires_in"))
    try:
        decoded = decode_base64(nonce) if isinstance(nonce, str) else b""
    except ValueError:
        decoded = b""
    if len(decoded) != NONCE_LENGTH:
        raise _bad_answer("/attest/challenge", f"nonce is not base64 of {NONCE_LENGTH} bytes")
    if not isinstance(versions, list) or not all(type(version) is int for version in versions):
        raise _bad_answer("/attest/challenge", "versions is not a list of numbers")
    if type(expires_in) is not int or expires_in <= 0:
        raise _bad_answer("/attest/challenge", "expires_in is not a positive number of seconds")
    return Challenge(decoded, tuple(versions), expires_in)


def instant_text(at: EpochMillis) -> str:
    """ISO-8601 in UTC with `Z` and milliseconds."""
    seconds, millis = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def _instant(text: str) -> EpochMillis:
    found = _INSTANT.fullmatch(text)
    try:
        whole = None if found is None else datetime.fromisoformat(found[1] + "+00:00")
    except ValueError:
        whole = None
    if found is None or whole is None:
        raise _bad_answer("/attest", "expiresAt is not an ISO-8601 instant in UTC")
    return EpochMillis(int(whole.timestamp()) * 1000 + int((found[2] or "")[:3].ljust(3, "0")))


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise AttestRequestError(f"{name} must be a text")
    return value


def _decoded(name: str, text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise AttestRequestError(f"{name} is not valid base64") from None


def _nonce(text: str) -> bytes:
    nonce = _decoded("nonce", text)
    if len(nonce) != NONCE_LENGTH:
        raise AttestRequestError(f"nonce must be base64 of {NONCE_LENGTH} bytes")
    return nonce


def _optional_text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _success_body(data: bytes, endpoint: str) -> dict[str, Any]:
    try:
        document = parse_object(data)
    except ValueError:
        raise _bad_answer(endpoint, "it is not a JSON object") from None
    body = document.get("body")
    if document.get("status") != "success" or not isinstance(body, dict):
        raise _bad_answer(endpoint, "it is no success with a body")
    return body


def _bad_answer(endpoint: str, why: str) -> DependencyError:
    return DependencyError(f"Core's answer to {endpoint} is unusable: {why}", next_step="check that the URL is Core's")
