"""What an attested operator receives: the token wrapped for its key, and JWTs (core chapter, section 6)."""

import logging
from typing import Final
from uuid import UUID

from uid2.core.context import CoreContext
from uid2.core.signer import signed_jwt
from uid2.protocol.attest_messages import AttestResponse
from uid2.protocol.attestation_token import seal_attestation_token
from uid2.protocol.crypto.aead import IV_LENGTH
from uid2.protocol.crypto.rsa import wrap
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.protocol.jwt_claims import claims_of
from uid2.protocol.operators import OperatorKey

VERSION_HEADER: Final = "X-UID2-AppVersion"
# Tokens of one moment do not all expire at once: 300 to 599 seconds are added by chance.
SPREAD_FROM: Final = 300
SPREAD: Final = 300
_LONGEST_VERSION: Final = 256

_log = logging.getLogger(__name__)


def new_token(context: CoreContext, operator_key: str) -> tuple[str, EpochSeconds]:
    """The text of a fresh attestation token and its expiry."""
    spread = SPREAD_FROM + int.from_bytes(context.entropy.bytes(4)) % SPREAD
    expires = EpochSeconds(context.now() + context.settings.att_token_lifetime_seconds + spread)
    nonce = int.from_bytes(context.entropy.bytes(8), signed=True)
    iv = context.entropy.bytes(IV_LENGTH)
    return seal_attestation_token(operator_key, expires, nonce, context.token_key, iv), expires


async def attest_response(
    context: CoreContext, operator: OperatorKey, operator_key: str, public_key: bytes, enclave_id: str, app: str | None
) -> AttestResponse:
    """The answer to accepted evidence.

    ValueError: the token does not fit the key. Uid2Error: no JWT could be made and `enforceJwt` is on.
    """
    token, expires = new_token(context, operator_key)
    wrapped = wrap(public_key, token.encode())
    settings = context.settings
    jwts = {}
    for audience in (settings.optout_url, settings.core_public_url):
        if audience is not None and context.signer is not None:
            jwts[audience] = await _jwt(
                context, operator, audience, expires, enclave_id, operator_version(operator, app)
            )
    return AttestResponse(
        wrapped,
        EpochMillis(expires * 1000),
        settings.optout_url,
        jwts.get(settings.optout_url or ""),
        jwts.get(settings.core_public_url or ""),
    )


def operator_version(operator: OperatorKey, app: str | None) -> str:
    """`<contact>|<name>|<version>` from the header `name=version;component=version…`."""
    if app is None:
        return "unknown client version"
    name, found, rest = app[:_LONGEST_VERSION].partition("=")
    return f"{operator.contact}|{name}|{rest.partition(';')[0]}" if found else f"{operator.contact}|null client key"


async def _jwt(
    context: CoreContext, operator: OperatorKey, audience: str, expires: EpochSeconds, enclave_id: str, version: str
) -> str | None:
    assert context.signer is not None
    try:
        claims = claims_of(
            operator,
            issuer=context.settings.core_public_url or "",
            audience=audience,
            expires=expires,
            now=context.now(),
            enclave_id=enclave_id,
            operator_version=version,
            jti=str(UUID(bytes=context.entropy.bytes(16), version=4)),
        )
        return await signed_jwt(claims, context.signer)
    except Uid2Error as error:
        if context.settings.enforce_jwt:
            raise
        _log.error("no JWT for operator %s: %s", operator.name, error.message)
        return None
