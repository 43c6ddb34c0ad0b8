"""Who calls Core and whether they may: operator key, then attestation (core chapter, section 3)."""

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from uid2.core.context import CoreContext
from uid2.core.problems import Refusal, not_loaded, unauthorized
from uid2.core.verifiers.trusted import TRUSTED
from uid2.protocol.attestation_token import AttestationTokenError, open_attestation_token
from uid2.protocol.ids import Role
from uid2.protocol.jwt_claims import JwtError, operator_subject
from uid2.protocol.operators import OperatorKey
from uid2.service.bearer import TRACE_HEADER, TRIMMED, bearer_key
from uid2.service.http import Handler
from uid2.service.messages import Request, Response, generic_failure

TOKEN_HEADER: Final = "Attestation-Token"  # noqa: S105 - a header's name
JWT_HEADER: Final = "Attestation-JWT"

Endpoint = Callable[[CoreContext, OperatorKey, Request], Awaitable[Response]]

_log = logging.getLogger(__name__)


def trust_refused(context: CoreContext, operator: OperatorKey) -> bool:
    """Whether production refuses this key: protocol `trusted` for an operator; the opt-out service may (11.11)."""
    return context.settings.guarded and operator.protocol == TRUSTED and Role.OPERATOR in operator.roles


def keyed(context: CoreContext, endpoint: Endpoint, roles: Collection[Role], *, gate: bool) -> Handler:
    """An endpoint for operator keys that have one of the roles; with `gate` for attested operators only."""
    wanted = frozenset(roles)

    async def handle(request: Request) -> Response:
        response = await _admitted(request)
        trace = request.header(TRACE_HEADER)
        return response if trace is None else response.with_headers((TRACE_HEADER, trace))

    async def _admitted(request: Request) -> Response:
        if context.own.operators is None:
            return not_loaded("operator keys")
        key = bearer_key(request)
        operator = None if key is None else context.own.operators.find(key)
        if key is None or operator is None:
            return unauthorized(Refusal.UNRECOGNIZED)
        request.attributes["operator"] = operator
        if operator.disabled:
            return unauthorized(Refusal.DISABLED)
        if operator.roles.isdisjoint(wanted):
            return unauthorized(Refusal.INSUFFICIENT)
        if gate:
            refusal = check_attestation(context, operator, key, request)
            if refusal is not None:
                return refusal
        return await endpoint(context, operator, request)

    return handle


def check_attestation(context: CoreContext, operator: OperatorKey, key: str, request: Request) -> Response | None:
    """The attestation gate (3.2): None lets the request pass, else the answer."""
    why = _token_problem(context, operator, key, request)
    if why is not None:
        _log.warning("%s refused at the attestation gate: %s", who(operator), why)
        return unauthorized(Refusal.INSUFFICIENT)
    return _check_jwt(context, operator, request)


def who(operator: OperatorKey) -> str:
    """Name and key id of an operator, for logs."""
    return f"operator {operator.name} ({operator.key_id})"


def _token_problem(context: CoreContext, operator: OperatorKey, key: str, request: Request) -> str | None:
    if trust_refused(context, operator):
        return f"keys of protocol trusted do not serve operators in the environment {context.settings.environment}"
    if operator.protocol == TRUSTED:
        return None
    token = request.header(TOKEN_HEADER)
    if token is None:
        return "no attestation token"
    try:
        open_attestation_token(token, context.token_key, key, context.now())
    except AttestationTokenError as error:
        return error.message
    return None


def _check_jwt(context: CoreContext, operator: OperatorKey, request: Request) -> Response | None:
    token = (request.header(JWT_HEADER) or "").strip(TRIMMED)
    settings = context.settings
    why = "no JWT is presented"
    if token:
        if settings.core_public_url is None:
            _log.error("a JWT cannot be verified: core_public_url is not set")
            return generic_failure(500)
        try:
            claims = context.jwt_verifier.verify(
                token, settings.core_public_url, settings.core_public_url, context.now()
            )
            if claims.sub != operator_subject(operator.key_hash):
                raise JwtError("the JWT was issued to another operator key")
        except JwtError as error:
            why = error.message
        else:
            request.attributes["claims"] = claims
            return None
    if settings.enforce_jwt:
        _log.warning("%s refused at the attestation gate: %s", who(operator), why)
        return unauthorized(Refusal.INSUFFICIENT)
    if token:
        _log.warning("%s presents an unusable JWT, which is not enforced: %s", who(operator), why)
    return None
