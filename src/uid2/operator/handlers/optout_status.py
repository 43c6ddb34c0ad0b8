"""POST /v2/optout/status (operator chapter, section 11): which raw UIDs are opted out, and since when."""

from typing import Any, Final

from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, success
from uid2.operator.optout_lookups import TimedOptOuts
from uid2.operator.problems import client_error

NO_BODY: Final = "Invalid request body"
MISSING: Final = "Required Parameter Missing: advertising_ids"
NOT_ARRAY: Final = "advertising_ids must be an array"
TOO_LARGE: Final = "Request payload is too large"


async def optout_status(call: EnvelopedCall) -> Outcome:
    """Only ids that are opted out, in request order, repeated as in the request."""
    if call.document is None:
        return refused(client_error(NO_BODY))
    ids: Any = call.document.get("advertising_ids")
    if ids is None:
        return refused(client_error(MISSING))
    if not isinstance(ids, list):
        return refused(client_error(NOT_ARRAY))
    if len(ids) > call.context.settings.optout_status_max_request_size:
        return refused(client_error(TOO_LARGE))
    raw_uids = [raw_uid for raw_uid in ids if isinstance(raw_uid, str)]
    times = TimedOptOuts(call.context.optouts, call.context.metrics).timestamps_of_ids(raw_uids)
    opted_out = [
        {"advertising_id": raw_uid, "opted_out_since": since * 1000}
        for raw_uid, since in zip(raw_uids, times, strict=True)
        if since is not None
    ]
    contact = call.client.contact or "unknown"
    call.context.metrics.observe("uid2_operator_optout_status_input_size", len(ids), api_contact=contact)
    call.context.metrics.observe("uid2_operator_optout_status_optout_size", len(opted_out), api_contact=contact)
    return success({"opted_out": opted_out})
