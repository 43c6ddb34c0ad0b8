"""Who calls the opt-out service and whether they may (opt-out chapter, 2.2 and 2.4)."""

import logging
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Final

from uid2.optout.context import OptOutContext
from uid2.optout.problems import not_ready, unauthorized
from uid2.protocol.attestation_token import AttestationTokenError, open_attestation_token
from uid2.protocol.ids import Role
from uid2.protocol.jwt_claims import JwtError, operator_subject
from uid2.protocol.operators import OperatorKey
from uid2.service.bearer import TRACE_HEADER, TRIMMED, bearer_key
from uid2.service.http import Handler
from uid2.service.messages import Request, Response, generic_failure

TOKEN_HEADER: Final = "Attestation-Token"  # noqa: S105 - a header's name
JWT_HEADER: Final = "Attestation-JWT"
TRUSTED: Final = "trusted"

Endpoint = Callable[[OptOutContext, Request], Awaitable[Response]]

_log = logging.getLogger(__name__)


def keyed(context: OptOutContext, endpoint: Endpoint, role: Role, *, attested: bool) -> Handler:
    """An endpoint for operator keys with a role; with `attested` for attested operators only."""

    async def handle(request: Request) -> Response:
        response = await _admitted(request)
        trace = request.header(TRACE_HEADER)
        return response.with_headers((TRACE_HEADER, trace)) if trace else response

    async def _admitted(request: Request) -> Response:
        if context.keys.index is None:
            return not_ready("the operator keys are not loaded yet")
        key = bearer_key(request)
        operator = None if key is None else context.keys.index.find(key)
        if key is None or operator is None or operator.disabled or role not in operator.roles:
            return unauthorized()
        request.attributes["operator"] = operator
        if attested:
            refusal = check_attestation(context, operator, key, request)
            if refusal is not None:
                return refusal
        return await endpoint(context, request)

    return handle


def internal(context: OptOutContext, endpoint: Endpoint) -> Handler:
    """An endpoint of the control port: the internal token, compared in constant time."""

    async def handle(request: Request) -> Response:
        wanted = context.settings.optout_internal_api_token
        key = bearer_key(request)
        presented = b"" if key is None else key.encode("utf-8", "surrogatepass")
        if wanted is None or not wanted.reveal() or not compare_digest(presented, wanted.reveal()):
            return unauthorized()
        return await endpoint(context, request)

    return handle


def check_attestation(context: OptOutContext, operator: OperatorKey, key: str, request: Request) -> Response | None:
    """None lets the request pass, else the answer."""
    why = _token_problem(context, operator, key, request)
    if why is not None:
        _log.warning("operator %s (%s) refused: %s", operator.name, operator.key_id, why)
        return unauthorized()
    return _check_jwt(context, operator, request)


def _token_problem(context: OptOutContext, operator: OperatorKey, key: str, request: Request) -> str | None:
    if operator.protocol == TRUSTED:
        if context.settings.guarded:
            return f"keys of protocol trusted do not serve operators in the environment {context.settings.environment}"
        return None
    token = request.header(TOKEN_HEADER)
    if token is None:
        return "no attestation token"
    try:
        open_attestation_token(token, context.token_key, key, context.now())
    except AttestationTokenError as error:
        return error.message
    return None


def _check_jwt(context: OptOutContext, operator: OperatorKey, request: Request) -> Response | None:
    token = (request.header(JWT_HEADER) or "").strip(TRIMMED)
    settings = context.settings
    why = "no JWT is presented"
    if token:
        if settings.core_public_url is None or settings.optout_url is None:
            _log.error("a JWT cannot be verified: core_public_url or optout_url is not set")
            return generic_failure(500)
        try:
            claims = context.jwt_verifier.verify(token, settings.optout_url, settings.core_public_url, context.now())
            if claims.sub != operator_subject(operator.key_hash):
                raise JwtError("the JWT was issued to another operator key")
            if Role.OPERATOR not in claims.roles:
                raise JwtError("the JWT does not name the role OPERATOR")
        except JwtError as error:
            why = error.message
        else:
            return None
    if settings.enforce_jwt:
        _log.warning("operator %s (%s) refused: %s", operator.name, operator.key_id, why)
        return unauthorized()
    if token:
        _log.warning("operator %s presents an unusable JWT, which is not enforced: %s", operator.name, why)
    return None
