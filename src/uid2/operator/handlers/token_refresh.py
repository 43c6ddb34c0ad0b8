"""POST /v2/token/refresh (operator chapter, 8.3; tokens chapter, 10.5 and 10.6).

The body is the token's text. A wrapped token carries the key of the answer; any other text is an unwrapped token and
is answered in plain JSON. Authentication is optional and only decides how much an error tells.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from uid2.operator.auth import find_client, with_trace
from uid2.operator.context import OperatorContext
from uid2.operator.enveloped import IV_LENGTH, OCTETS
from uid2.operator.optout_rules import is_opted_out
from uid2.operator.problems import NO_ACTIVE_KEY, client_error, problem, unknown_error
from uid2.operator.token_metrics import TokenStatus, TokenTally
from uid2.operator.token_service import IssuedTokens, TokenSubject, Verdict, check_durations, issue_tokens
from uid2.operator.token_service import judge_refresh_token as judge
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError, EnvelopeError, NoActiveKeyError, Uid2Error
from uid2.protocol.ids import EpochMillis
from uid2.protocol.tokens.refresh import RefreshToken, decode_refresh_token
from uid2.protocol.tokens.wrapped import WRAPPED_LENGTH, unwrap_refresh_token
from uid2.service.messages import JSON, TEXT, Request, Response
from uid2.stores.snapshot import OperatorSnapshot

ENDPOINT: Final = "RefreshV2"
UNKNOWN: Final = "Unknown error while refreshing token v2"

_HASH_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class RefreshCall:
    """One call with the data it began with. `response_key` None: the answer is plain."""

    context: OperatorContext
    request: Request
    snapshot: OperatorSnapshot
    now: EpochMillis
    authenticated: bool
    response_key: bytes | None = field(repr=False)
    tally: TokenTally


def refresh_token(context: OperatorContext) -> Callable[[Request], Awaitable[Response]]:
    """The handler of the route."""

    async def handle(request: Request) -> Response:
        return with_trace(request, _answer(context, request))

    return handle


def _answer(context: OperatorContext, request: Request) -> Response:
    snapshot, now = context.snapshot, context.clock.now_ms()
    client = find_client(request, snapshot.clients)
    text: str | None = request.text()
    response_key = None
    if context.settings.enable_v2_encryption and text is not None and len(text) == WRAPPED_LENGTH:
        try:
            wrapped = unwrap_refresh_token(text, snapshot.key_ring)
        except EnvelopeError as error:
            return client_error(error.message)
        text, response_key = wrapped.refresh_token, wrapped.response_key
    tally = TokenTally(context, request, ENDPOINT, None if client is None else client.site_id, snapshot)
    call = RefreshCall(context, request, snapshot, now, client is not None, response_key, tally)
    try:
        token = decode_refresh_token(text, snapshot.key_ring)
    except Uid2Error:
        # The reference answers 500 to a corrupted unwrapped token; it is the caller's input all the same.
        return _refused(call, TokenStatus.INVALID_TOKEN, "invalid_token", "Invalid Token presented")
    if len(token.first_level_hash) != _HASH_LENGTH:
        return _refused(call, TokenStatus.INVALID_TOKEN, "invalid_token", "Invalid Token presented")
    tally.refresh_token_received(token)
    return _refreshed(call, token)


def _refreshed(call: RefreshCall, token: RefreshToken) -> Response:
    context = call.context
    scope = context.settings.identity_scope
    try:
        check_durations(call.snapshot.runtime_config)
    except ConfigurationError:
        call.tally.count(TokenStatus.UNKNOWN)
        return unknown_error(UNKNOWN)
    verdict = judge(token, scope, call.now)
    if verdict is Verdict.INVALID:
        return _refused(call, TokenStatus.INVALID_TOKEN, "invalid_token", "Invalid Token presented")
    if verdict is Verdict.EXPIRED:
        return _refused(call, TokenStatus.EXPIRED_TOKEN, "expired_token", "Expired Token presented")
    named = (scope, token.identity_type, token.first_level_hash)
    special = context.special_identities(call.snapshot)
    if verdict is Verdict.DEPRECATED or is_opted_out(named, special, context.optouts_of_call(), refreshing=True):
        call.tally.count(TokenStatus.OPT_OUT)
        return _sealed(call, {"status": "optout"})
    sources = context.token_sources(call.snapshot, call.now)
    try:
        issued = issue_tokens(sources, TokenSubject.of_refresh_token(token), call.now, context.entropy.bytes)
        body = _body(call, issued)
    except NoActiveKeyError:
        call.tally.keys_missing()
        call.tally.count(TokenStatus.NO_ACTIVE_KEY)
        return unknown_error(NO_ACTIVE_KEY) if call.authenticated else _unexplained()
    except Uid2Error:
        return _refused(call, TokenStatus.INVALID_TOKEN, "invalid_token", "Invalid Token presented")
    call.tally.refreshed(token, issued, call.now)
    return _sealed(call, {"body": body, "status": "success"})


def _body(call: RefreshCall, issued: IssuedTokens) -> dict[str, Any]:
    context = call.context
    if not context.settings.enable_v2_encryption:
        return issued.plain_body()
    return issued.body(context.token_sources(call.snapshot, call.now), call.now, context.entropy.bytes)


def _sealed(call: RefreshCall, document: dict[str, Any]) -> Response:
    payload = msgspec.json.encode(document)
    if call.response_key is None:
        return Response(200, payload, JSON)
    sealed = GcmKey(call.response_key).seal(call.context.entropy.bytes(IV_LENGTH), payload)
    if call.request.is_octet_stream:
        return Response(200, sealed, OCTETS)
    return Response(200, encode_base64(sealed).encode(), TEXT)


def _refused(call: RefreshCall, status: TokenStatus, code: str, message: str) -> Response:
    call.tally.count(status)
    return problem(400, code, message) if call.authenticated else _unexplained()


def _unexplained() -> Response:
    return problem(400, "error", "Error refreshing token")
