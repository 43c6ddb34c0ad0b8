"""POST /v2/identity/buckets (operator chapter, 10.3): the buckets changed since a time."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, success_of_json
from uid2.operator.problems import client_error
from uid2.protocol.json_text import text_of

MISSING: Final = "missing parameter since_timestamp"
INVALID: Final = "invalid date, must conform to ISO 8601"
# A lane is chosen by the size of its work; a list of buckets costs about this much a bucket.
BYTES_PER_BUCKET: Final = 64

_LOCAL_TIME: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


async def list_buckets(call: EnvelopedCall) -> Outcome:
    """Every bucket of the salts in use that was updated at or after `since_timestamp`, in table order."""
    value = (call.document or {}).get("since_timestamp")
    if value is None:
        return refused(client_error(MISSING))
    try:
        since = parse_local_time(text_of(value))
    except ValueError:
        return refused(client_error(INVALID))
    table = call.context.salts_in_use(call.snapshot, call.now).table
    engine = call.context.engine
    body = await call.context.lanes.run(table.size * BYTES_PER_BUCKET, lambda: engine.list_buckets(table, since))
    return success_of_json(body)


def parse_local_time(text: str) -> int:
    """Epoch milliseconds of `YYYY-MM-DDThh:mm[:ss[.fraction]]` read as UTC, rounded up; ValueError otherwise."""
    found = _LOCAL_TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a local date-time")
    year, month, day, hour, minute = map(int, found.group(1, 2, 3, 4, 5))
    moment = datetime(year, month, day, hour, minute, int(found[6] or 0), tzinfo=UTC)
    nanoseconds = int((found[7] or "").ljust(9, "0"))
    # Buckets carry whole milliseconds: at or after a fraction of one means from the next one on.
    return (moment - _EPOCH) // _MILLISECOND + -(-nanoseconds // 1_000_000)
