"""POST /v2/token/generate (operator chapter, 8.2): the first tokens of an identity, for a publisher's server."""

from collections.abc import Mapping
from typing import Any, Final

from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, special, success
from uid2.operator.optout_rules import is_opted_out
from uid2.operator.problems import answer_to, client_error, problem, unknown_error
from uid2.operator.single_identity import read_single_identity
from uid2.operator.token_metrics import TokenStatus, TokenTally
from uid2.operator.token_service import TokenSubject, check_durations, issue_tokens
from uid2.protocol.errors import ClientInputError, NoActiveKeyError, Uid2Error
from uid2.protocol.ids import IdentityScope
from uid2.protocol.json_text import text_of
from uid2.protocol.tcf import decode_consent
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.privacy import GENERATED

ENDPOINT: Final = "GenerateV2"
UNKNOWN: Final = "Unknown error while generating token v2"
REQUIRED_PURPOSES: Final = frozenset((1, 2, 3, 4, 7, 10))

_CONSENT: Final = "tcf_consent_string"


async def generate_token(call: EnvelopedCall) -> Outcome:
    """Rows 4 to 13 of 8.2."""
    context = call.context
    tally = TokenTally(context, call.request, ENDPOINT, call.client.site_id, call.snapshot)
    try:
        identity = read_single_identity(
            call.document, call.snapshot.salts.first_level, phone_support=context.settings.enable_phone_support
        )
    except ClientInputError as error:
        return refused(client_error(error.message))
    if context.settings.identity_scope is IdentityScope.EUID and call.document and _CONSENT in call.document:
        tally.consent_seen(call.client.contact)
        refusal = _check_consent(call.document, context.settings.tcf_vendor_id, tally)
        if refusal is not None:
            return refusal
    subject = TokenSubject(
        identity_type=identity.kind.identity_type,
        first_level_hash=identity.first_level_hash,
        publisher=PublisherIdentity(call.client.site_id),
        privacy_bits=GENERATED,
        established=call.now,
    )
    try:
        check_durations(call.snapshot.runtime_config)
        named = (context.settings.identity_scope, subject.identity_type, subject.first_level_hash)
        if is_opted_out(named, context.special_identities(call.snapshot), context.optouts_of_call()):
            tally.count(TokenStatus.OPT_OUT)
            return special("optout")
        sources = context.token_sources(call.snapshot, call.now)
        issued = issue_tokens(sources, subject, call.now, context.entropy.bytes)
    except NoActiveKeyError as error:
        tally.keys_missing()
        tally.count(TokenStatus.NO_ACTIVE_KEY)
        return refused(answer_to(error))
    except Uid2Error:
        tally.count(TokenStatus.UNKNOWN)
        return refused(unknown_error(UNKNOWN))
    tally.issued(issued)
    if not context.settings.enable_v2_encryption:
        return success(issued.plain_body())
    try:
        body = issued.body(sources, call.now, context.entropy.bytes)
    except Uid2Error:
        return refused(problem(500, "error", ""))
    return success(body)


def _check_consent(document: Mapping[str, Any], vendor_id: int, tally: TokenTally) -> Outcome | None:
    value = document[_CONSENT]
    try:
        consent = decode_consent("" if value is None else text_of(value))
    except ValueError:
        tally.count(TokenStatus.INVALID_USER_CONSENT_STRING)
        return refused(client_error("User consent is invalid"))
    if consent.permits(vendor_id, REQUIRED_PURPOSES):
        return None
    tally.count(TokenStatus.INSUFFICIENT_USER_CONSENT)
    return special("insufficient_user_consent")
