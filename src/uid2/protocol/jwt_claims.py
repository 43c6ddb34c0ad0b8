"""Claims of the JWTs that Core issues to operators (core chapter, 6.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha512
from typing import Any, Final

import msgspec

from uid2.protocol.encoding import encode_base64, encode_base64url
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochSeconds, Role, SiteId
from uid2.protocol.json_text import parse_object
from uid2.protocol.operators import OperatorKey
from uid2.protocol.store_json import role_names

HEADER: Final = b'{"typ":"JWT","alg":"RS256"}'
_TEXTS: Final = ("iss", "aud", "sub", "roles", "siteId", "enclaveId", "enclaveType", "operatorVersion", "jti")


class JwtError(Uid2Error):
    """A JWT that is malformed, not signed by a known key, expired, or issued for another purpose."""

    code = "jwt"


@dataclass(frozen=True, slots=True)
class AttestationClaims:
    """`exp` and `iat` in epoch seconds."""

    exp: EpochSeconds
    iat: EpochSeconds
    iss: str
    aud: str
    sub: str
    name: str | None
    roles: frozenset[Role]
    site_id: SiteId
    enclave_id: str
    enclave_type: str
    operator_version: str
    jti: str


def operator_subject(key_hash: str) -> str:
    """base64(SHA-512 of the text of an operator's `key_hash`)."""
    return encode_base64(sha512(key_hash.encode()).digest())


def claims_of(
    operator: OperatorKey,
    *,
    issuer: str,
    audience: str,
    expires: EpochSeconds,
    now: EpochSeconds,
    enclave_id: str,
    operator_version: str,
    jti: str,
) -> AttestationClaims:
    """The claims for an operator; JwtError when its record has no site."""
    if operator.site_id is None:
        raise JwtError("the operator record has no site_id", next_step="set the operator's site")
    return AttestationClaims(
        exp=expires,
        iat=now,
        iss=issuer,
        aud=audience,
        sub=operator_subject(operator.key_hash),
        name=operator.name,
        roles=operator.roles,
        site_id=operator.site_id,
        enclave_id=enclave_id,
        enclave_type=operator.protocol or "",
        operator_version=operator_version,
        jti=jti,
    )


def encode_claims(claims: AttestationClaims) -> bytes:
    """Compact JSON, members in the order of the reference."""
    return msgspec.json.encode(
        {
            "exp": claims.exp,
            "iat": claims.iat,
            "iss": claims.iss,
            "sub": claims.sub,
            "aud": claims.aud,
            "name": claims.name,
            "roles": ",".join(role_names(claims.roles)),
            "siteId": str(claims.site_id),
            "enclaveId": claims.enclave_id,
            "enclaveType": claims.enclave_type,
            "operatorVersion": claims.operator_version,
            "jti": claims.jti,
        }
    )


def signing_input(claims: AttestationClaims) -> bytes:
    """`base64url(header).base64url(claims)`: what is signed; the token is that, a dot and the signature."""
    return f"{encode_base64url(HEADER)}.{encode_base64url(encode_claims(claims))}".encode()


def parse_claims(data: bytes | Mapping[str, Any]) -> AttestationClaims:
    """The claims of a verified token; JwtError names the claim that is missing or wrong."""
    if isinstance(data, bytes):
        try:
            data = parse_object(data)
        except ValueError:
            raise JwtError("the claims are not a JSON object") from None
    texts = {name: _text(data, name) for name in _TEXTS}
    names = texts["roles"].split(",")
    if not all(name in Role.__members__ for name in names):
        raise JwtError("claim roles holds an unknown role")
    if not texts["siteId"].removeprefix("-").isdecimal() or len(texts["siteId"]) > 11:
        raise JwtError("claim siteId is not a number")
    name = data.get("name")
    return AttestationClaims(
        exp=_seconds(data, "exp"),
        iat=_seconds(data, "iat"),
        iss=texts["iss"],
        aud=texts["aud"],
        sub=texts["sub"],
        name=name if isinstance(name, str) else None,
        roles=frozenset(Role(name) for name in names),
        site_id=SiteId(int(texts["siteId"])),
        enclave_id=texts["enclaveId"],
        enclave_type=texts["enclaveType"],
        operator_version=texts["operatorVersion"],
        jti=texts["jti"],
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise JwtError(f"claim {name} is missing or not a text")
    return value


def _seconds(data: Mapping[str, Any], name: str) -> EpochSeconds:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise JwtError(f"claim {name} is missing or not a whole number")
    return EpochSeconds(value)
