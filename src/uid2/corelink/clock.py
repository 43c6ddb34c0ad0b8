"""How far this machine's clock is from Core's."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from uid2.protocol.encoding import decode_base64url
from uid2.protocol.ids import EpochMillis

# Beyond it, other services may refuse our JWT or our requests.
NOTABLE_SKEW_MS: Final = 60_000
# Less than this cannot be told from the whole seconds of the header and the time of the call.
SKEW_PRECISION_MS: Final = 2_000


def skew_of(date: str | None, sent: EpochMillis, received: EpochMillis) -> int | None:
    """Milliseconds that this clock is ahead of a `Date` header; None without a readable one.

    The header has whole seconds, so half a second is added to it; the middle of the exchange is compared.
    """
    told = told_time(date)
    return None if told is None else (sent + received) // 2 - (told + 500)


def told_time(date: str | None) -> EpochMillis | None:
    """The time of a `Date` header."""
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
        return EpochMillis(int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 1000)
    except (ValueError, TypeError, OverflowError):
        return None


def issued_at(jwt: str | None) -> EpochMillis | None:
    """The `iat` of a JWT that Core has just made, without a look at its signature: it only tells the time."""
    if jwt is None:
        return None
    try:
        claims = msgspec.json.decode(decode_base64url(jwt.split(".")[1]))
        seconds = claims["iat"]
    except (ValueError, IndexError, KeyError, TypeError):
        return None
    return EpochMillis(seconds * 1000) if type(seconds) is int else None
