"""POST /v2/token/logout (operator chapter, 8.5): takes an opt-out. Durable first, then honoured here, then answered."""

from typing import Any

from uid2.operator.context import OptOutRequest
from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, success
from uid2.operator.problems import problem
from uid2.operator.single_identity import InvalidIdentityError, MissingIdentityError, read_single_identity
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.json_text import text_of
from uid2.protocol.normalize import InputKind


async def log_out(call: EnvelopedCall) -> Outcome:
    """200 once the opt-out lasts and counts in every worker of this operator."""
    context = call.context
    # Without envelopes the reference finds no payload here at all (4.6).
    document = call.document if context.settings.enable_v2_encryption else None
    try:
        identity = read_single_identity(
            document, call.snapshot.salts.first_level, phone_support=context.settings.enable_phone_support
        )
    except MissingIdentityError:
        return refused(problem(400, "invalid_token", "Invalid Token presented null"))
    except InvalidIdentityError:
        return refused(problem(400, "invalid_token", "Invalid Token presented: the identity is invalid"))
    sources = context.token_sources(call.snapshot, call.now)
    optout = OptOutRequest(
        first_level_hash=identity.first_level_hash,
        raw_uid=sources.raw_uid(identity.kind.identity_type, identity.first_level_hash),
        at=EpochSeconds(call.now // 1000),
        email=identity.text if identity.kind is InputKind.EMAIL else None,
        phone=identity.text if identity.kind is InputKind.PHONE else None,
        client_ip=_optional_text(document, "clientIp"),
        trace_id=call.request.header("UID-Trace-Id"),
    )
    await context.optout_sink.record(optout)
    await context.spread_optout(optout)
    return success({"optout": "OK"})


def _optional_text(document: dict[str, Any] | None, name: str) -> str | None:
    value = None if document is None else document.get(name)
    return None if value is None else text_of(value)
