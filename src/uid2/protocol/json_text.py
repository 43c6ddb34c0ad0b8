"""JSON of requests, with the leniencies clients rely on (operator chapter, 2.6)."""

import re
from decimal import Decimal
from typing import Any, Final

import msgspec

MAX_DEPTH: Final = 128
# A string or comment without an end is taken to the end of the text, so that each byte is looked at once.
_STRINGS_AND_COMMENTS: Final = re.compile(rb'"(?:[^"\\]++|\\.|\\\Z)*+(?:"|\Z)|/\*(?:.*?\*/|.*+)|//[^\r\n]*+', re.DOTALL)


def parse_object(data: bytes) -> dict[str, Any]:
    """The members of a JSON object.

    C-style comments are skipped, the last of several equal names wins. ValueError: not an object, not UTF-8, lone
    surrogates, NaN and infinities, numbers out of range, more than MAX_DEPTH levels.
    """
    value = parse_value(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def parse_value(data: bytes) -> Any:
    """Any JSON value under the rules of `parse_object`."""
    try:
        value = _decode(data)
    except ValueError:
        # Comments are rare: pay for their removal only after a failure.
        if b"/*" not in data and b"//" not in data:
            raise
        value = _decode(_STRINGS_AND_COMMENTS.sub(_blank_comment, data))
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def text_of(value: object) -> str:
    """The text of a parsed value where a string is expected: the platform's rendering of scalars, lists and objects."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return _double_text(value)
        case list():
            return f"[{', '.join(map(text_of, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}={text_of(member)}' for name, member in value.items())}}}"
    return str(value)


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    except ValueError:
        raise ValueError("not valid JSON") from None


def _blank_comment(found: re.Match[bytes]) -> bytes:
    text = found[0]
    comment = text.startswith(b"//") or (text.startswith(b"/*") and len(text) > 3 and text.endswith(b"*/"))
    return b" " if comment else text


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        if not deeper:
            return
        level = deeper
    raise ValueError("JSON is nested too deeply")


def _double_text(value: float) -> str:
    """Decimal from 10^-3 below 10^7, else one digit, point, digits and exponent; always with a point."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    shortest = Decimal(repr(value)).normalize()
    if len(shortest.as_tuple().digits) == 1:
        # The platform never prints fewer than two digits and takes the nearest such number (4.9E-324).
        shortest = Decimal(f"{value:.1e}").normalize()
    sign, digits, exponent = shortest.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{exponent + len(digits) - 1}"
