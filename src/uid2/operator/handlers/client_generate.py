"""POST /v2/token/client-generate (operator chapter, section 9): the first tokens, asked for by a browser or an app."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from uid2.operator.context import OperatorContext
from uid2.operator.enveloped import IV_LENGTH, text_bytes
from uid2.operator.optout_rules import is_opted_out
from uid2.operator.origin_check import is_allowed_app, is_allowed_origin
from uid2.operator.problems import INVALID_IDENTIFIER, answer_to, client_error, problem, unauthorized, unknown_error
from uid2.operator.refused_callers import RefusedCallers
from uid2.operator.token_metrics import TokenStatus, TokenTally, site_name
from uid2.operator.token_service import TokenSubject, check_durations, issue_tokens
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.cstg import CstgRequest, open_cstg_request, parse_cstg_request, seal_cstg_response
from uid2.protocol.errors import ClientInputError, NoActiveKeyError, Uid2Error
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import EpochMillis, FirstLevelHash
from uid2.protocol.json_text import text_of
from uid2.protocol.keypairs import ClientSideKeypair
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.privacy import CLIENT_SIDE
from uid2.service.messages import Request, Response
from uid2.stores.snapshot import OperatorSnapshot

ENDPOINT: Final = "ClientSideTokenGenerateV2"
UNKNOWN: Final = "Unknown error while handling client side token generate"
HASH_KINDS: Final = (InputKind.EMAIL_HASH, InputKind.PHONE_HASH)

# Client API keys are longer than any subscription id; shorter texts are not worth a search.
_SHORTEST_API_KEY: Final = 20
_STATUS_OF: Final[Mapping[str, TokenStatus]] = {
    "required parameters: payload, iv, public_key": TokenStatus.MISSING_PARAMS,
    "bad public key": TokenStatus.BAD_PUBLIC_KEY,
    "bad iv": TokenStatus.BAD_IV,
    "payload decryption failed": TokenStatus.BAD_PAYLOAD,
    "encrypted payload contains invalid json": TokenStatus.BAD_JSON_PAYLOAD,
}
_log = logging.getLogger(__name__)


def generate_on_client_side(context: OperatorContext) -> Callable[[Request], Awaitable[Response]]:
    """The handler of the route."""
    refused = RefusedCallers(context.clock.monotonic())

    async def handle(request: Request) -> Response:
        snapshot, now = context.snapshot, context.clock.now_ms()
        try:
            asked = parse_cstg_request(text_bytes(request))
        except ClientInputError as error:
            return client_error(error.message)
        keypair = snapshot.keypairs.get(asked.subscription_id or "")
        if keypair is None:
            _warn_of_api_key(snapshot, asked.subscription_id)
            return client_error("bad subscription_id")
        app = asked.app_name is not None
        tally = TokenTally(context, request, ENDPOINT, keypair.site_id, snapshot, app=app, client_side=True)
        refusal = _refuse_caller(context, request, asked, keypair, tally, refused)
        return refusal or _generate(context, snapshot, now, asked, keypair, tally)

    return handle


def _refuse_caller(
    context: OperatorContext,
    request: Request,
    asked: CstgRequest,
    keypair: ClientSideKeypair,
    tally: TokenTally,
    refused: RefusedCallers,
) -> Response | None:
    """Rows 5 to 7 of 9.4."""
    if keypair.disabled:
        tally.count(TokenStatus.UNAUTHORIZED)
        return unauthorized("Unauthorized")
    if not context.settings.client_side_token_generate_domain_name_check_enabled:
        return None
    site = tally.snapshot.sites.get(keypair.site_id)
    origin = request.header("Origin")
    if asked.app_name is not None:
        if site is not None and is_allowed_app(asked.app_name, site.app_names):
            return None
        status, caller = TokenStatus.INVALID_APP_NAME, asked.app_name
        answer = problem(403, "invalid_app_name", "unexpected app name")
    else:
        if site is not None and is_allowed_origin(origin, site.domain_names):
            return None
        status, caller = TokenStatus.INVALID_HTTP_ORIGIN, origin or ""
        answer = problem(403, "invalid_http_origin", "unexpected http origin")
    tally.count(status)
    if context.settings.client_side_token_generate_log_invalid_http_origins:
        name = site_name(tally.snapshot, keypair.site_id)
        refused.add(keypair.site_id, name, caller, context.clock.monotonic())
    return answer


def _generate(
    context: OperatorContext,
    snapshot: OperatorSnapshot,
    now: EpochMillis,
    asked: CstgRequest,
    keypair: ClientSideKeypair,
    tally: TokenTally,
) -> Response:
    """Rows 8 to 16."""
    try:
        opened = open_cstg_request(asked, keypair.private_key)
    except ClientInputError as error:
        status = _STATUS_OF.get(error.message, TokenStatus.UNKNOWN)
        tally.count(status)
        if status is TokenStatus.BAD_PUBLIC_KEY:
            _warn_of_api_key(snapshot, asked.public_key)
        return client_error(error.message)
    try:
        kind, flh = _read_hash(opened.document, snapshot, phone_support=context.settings.enable_phone_support)
    except ClientInputError as error:
        tally.count(TokenStatus.MISSING_PARAMS)
        return client_error(error.message)
    publisher = PublisherIdentity(keypair.site_id)
    subject = TokenSubject(kind.identity_type, flh, publisher, CLIENT_SIDE, established=now)
    try:
        check_durations(snapshot.runtime_config)
        named = (context.settings.identity_scope, subject.identity_type, flh)
        if is_opted_out(named, context.special_identities(snapshot), context.optouts_of_call()):
            tally.count(TokenStatus.OPT_OUT)
            return _sealed(context, opened.key, {"status": "optout"})
        sources = context.token_sources(snapshot, now)
        issued = issue_tokens(sources, subject, now, context.entropy.bytes)
        body = issued.body(sources, now, context.entropy.bytes)
    except NoActiveKeyError as error:
        tally.keys_missing()
        tally.count(TokenStatus.NO_ACTIVE_KEY)
        return answer_to(error)
    except Uid2Error:
        tally.count(TokenStatus.UNKNOWN)
        return unknown_error(UNKNOWN)
    tally.issued(issued)
    return _sealed(context, opened.key, {"body": body, "status": "success"})


def _read_hash(
    document: Mapping[str, Any], snapshot: OperatorSnapshot, *, phone_support: bool
) -> tuple[InputKind, FirstLevelHash]:
    """Rows 13a to 13c: the one hash of the payload, as first-level hash."""
    given = [(kind, document[kind.value]) for kind in HASH_KINDS if document.get(kind.value) is not None]
    if not phone_support and any(kind is InputKind.PHONE_HASH for kind, _ in given):
        raise ClientInputError("phone support not enabled")
    if len(given) != 1:
        text = "exactly one of: email_hash, phone_hash" if phone_support else "email_hash"
        raise ClientInputError(f"please provide {text}")
    ((kind, value),) = given
    identity_hash = identity_hash_from(kind, text_of(value))
    if identity_hash is None:
        raise ClientInputError(INVALID_IDENTIFIER)
    return kind, first_level_hash(identity_hash, snapshot.salts.first_level)


def _sealed(context: OperatorContext, key: GcmKey, document: dict[str, Any]) -> Response:
    iv = context.entropy.bytes(IV_LENGTH)
    return Response(200, seal_cstg_response(msgspec.json.encode(document), key, iv).encode())


def _warn_of_api_key(snapshot: OperatorSnapshot, text: str | None) -> None:
    """Says so when a caller has published an API key where a public value belongs."""
    client = snapshot.clients.find(text) if text is not None and len(text) >= _SHORTEST_API_KEY else None
    if client is not None:
        _log.error(
            "a client API key was used for client-side generation: key %s, site %s", client.key_id, client.site_id
        )
