"""`GET /optout/tail?after=<cursor>&wait=<seconds>`: new opt-outs as they come (design, 11.16)."""

import re
from typing import Final

from uid2.optout.context import OptOutContext
from uid2.optout.problems import refused
from uid2.optout.tail import LONGEST_WAIT_SECONDS
from uid2.protocol.encoding import encode_base64
from uid2.service.messages import Request, Response, json_response

_SECONDS: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?", re.ASCII)
LONGEST_CURSOR: Final = 128


async def tail(context: OptOutContext, request: Request) -> Response:
    wait = request.query.get("wait", "0")
    if not _SECONDS.fullmatch(wait) or float(wait) > LONGEST_WAIT_SECONDS:
        return refused(400, f"wait must be a number of seconds from 0 to {LONGEST_WAIT_SECONDS:.0f}")
    after = request.query.get("after") or None
    if after is not None and len(after) > LONGEST_CURSOR:
        return refused(400, "after must be a cursor of a former answer")
    page = await context.tail.page(after, float(wait))
    entries = [
        {
            "identity_hash": encode_base64(message.message.identity_hash),
            "advertising_id": encode_base64(message.message.advertising_id),
            "timestamp": message.timestamp,
        }
        for message in page.messages
    ]
    return json_response(
        200, {"status": "success", "body": {"cursor": page.cursor, "gap": page.gap, "entries": entries}}
    )
