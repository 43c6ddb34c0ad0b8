"""The key in `Authorization: Bearer …` (operator chapter, 3.1; core chapter, 3.1)."""

from typing import Final

from uid2.service.messages import Request

TRACE_HEADER: Final = "X-Amzn-Trace-Id"
# What the platform trims: every character up to the space.
TRIMMED: Final = "".join(map(chr, range(0x21)))
_SCHEME: Final = "bearer "


def bearer_key(request: Request) -> str | None:
    """The key that a request presents; None when it presents none."""
    header = request.header("authorization")
    if header is None:
        return None
    value = header.strip(TRIMMED)
    if value[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return value[len(_SCHEME) :] or None
