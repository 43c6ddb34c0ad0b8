"""Strict base64 (tokens chapter, section 1).

Accepted: correct padding or none at all. Refused with ValueError: wrong padding, any character outside the
alphabet (white space, line breaks, the characters of the other alphabet), a lone final character, text that is
not ASCII. Unused trailing bits are not looked at.
"""

from base64 import urlsafe_b64encode
from typing import Final

import pybase64

_NOT_BASE64: Final = "not valid base64"
_NOT_BASE64URL: Final = "not valid base64url"


def decode_base64(text: str | bytes) -> bytes:
    """The bytes of standard base64 text; ValueError when it is not."""
    try:
        return pybase64.b64decode(_padded(text), validate=True)
    except ValueError:
        raise ValueError(_NOT_BASE64) from None


def decode_base64url(text: str | bytes) -> bytes:
    """The bytes of base64url text; ValueError when it is not."""
    data = text.encode() if isinstance(text, str) and text.isascii() else text
    if isinstance(data, str) or b"+" in data or b"/" in data:
        raise ValueError(_NOT_BASE64URL)
    try:
        return pybase64.b64decode(_padded(data), altchars=b"-_", validate=True)
    except ValueError:
        raise ValueError(_NOT_BASE64URL) from None


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return pybase64.b64encode_as_string(data)


def encode_base64_bytes(data: bytes) -> bytes:
    """Standard base64 with padding, as ASCII bytes: one copy less of a large body."""
    return pybase64.b64encode(data)


def encode_base64url(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _padded(text: str | bytes) -> str | bytes:
    """The text with its padding restored when it has none; the decoder then demands the right padding."""
    missing = -len(text) % 4
    if not missing:
        return text
    if isinstance(text, str):
        return text if text.endswith("=") else text + "=" * missing
    return text if text.endswith(b"=") else text + b"=" * missing
