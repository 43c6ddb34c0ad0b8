"""POST /v2/token/validate (operator chapter, 8.4): whether an advertising token is that of an identity."""

from typing import Any

from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, success
from uid2.operator.problems import client_error
from uid2.operator.single_identity import read_single_identity
from uid2.operator.token_metrics import count_validation
from uid2.protocol.errors import ClientInputError, Uid2Error
from uid2.protocol.json_text import text_of
from uid2.protocol.keysets import KeyRing
from uid2.protocol.tokens.advertising import AdvertisingToken, decode_advertising_token


async def validate_token(call: EnvelopedCall) -> Outcome:
    """Rows 2 to 7 of 8.4. Neither opt-outs nor the token's expiry are looked at."""
    context = call.context
    try:
        identity = read_single_identity(
            call.document, call.snapshot.salts.first_level, phone_support=context.settings.enable_phone_support
        )
    except ClientInputError as error:
        count_validation(call, "invalid_input")
        return refused(client_error(error.message))
    assert call.document is not None
    token = _read_token(call.document.get("token"), call.snapshot.key_ring)
    if token is None:
        count_validation(call, "invalid_token")
        return refused(client_error("Invalid token"))
    if _owner(token, call.snapshot.key_ring) != call.client.site_id:
        count_validation(call, "unauthorized")
        return refused(client_error("Unauthorised to validate token"))
    sources = context.token_sources(call.snapshot, call.now)
    matches = sources.raw_uid(identity.kind.identity_type, identity.first_level_hash) == token.raw_uid
    count_validation(call, "match" if matches else "mismatch")
    return success(matches)


def _read_token(value: Any, keys: KeyRing) -> AdvertisingToken | None:
    if value is None:
        return None
    try:
        return decode_advertising_token(text_of(value), keys)
    except Uid2Error:
        return None


def _owner(token: AdvertisingToken, keys: KeyRing) -> int | None:
    """The site of the keyset whose key sealed the token's inner part."""
    key = keys.key(token.site_key_id)
    keyset = None if key is None else keys.keyset_of(key)
    return None if keyset is None else keyset.site_id
