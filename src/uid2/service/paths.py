"""Normalisation of request paths (operator API, 1.1)."""

import re

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-]+)+\Z")


def normalize_path(raw: str) -> str:
    """Unreserved escapes decoded, slashes collapsed, dot segments resolved; never climbs above the root."""
    if _PLAIN.match(raw):
        return raw
    text = _ESCAPE.sub(lambda match: _decoded(match), raw)
    kept: list[str] = []
    segments = text.split("/")
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    path = "/" + "/".join(kept)
    ends_open = segments[-1] in ("", ".", "..")
    return path + "/" if ends_open and kept else path


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0]
