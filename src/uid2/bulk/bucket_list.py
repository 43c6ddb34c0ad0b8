"""The buckets updated since a time, as JSON (operator chapter, 10.3)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from uid2.bulk.salt_table import SaltTable

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800_000
_LAST: Final = 253_402_300_799_999


def list_buckets(table: SaltTable, since: int) -> bytes:
    """The array of `bucket_id` and `last_updated` in table order; `since` in epoch milliseconds."""
    # Salts are rotated by the day, so that many buckets share one time.
    time_text = lru_cache(maxsize=1024)(format_local_time)
    text_of = msgspec.json.Encoder().encode

    def elements() -> Iterator[bytes]:
        for index in table.modified_since(since):
            updated = time_text(table.last_updated(index)).encode()
            yield b'{"bucket_id":%b,"last_updated":"%b"}' % (text_of(table.bucket_id(index)), updated)

    return b"[%b]" % b",".join(elements())


def format_local_time(millis: int) -> str:
    """`yyyy-MM-ddTHH:mm:ss.SSS` in UTC; the first or last date there is when a time lies beyond."""
    moment = _EPOCH + timedelta(milliseconds=min(max(millis, _FIRST), _LAST))
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00")
