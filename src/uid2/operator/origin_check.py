"""Which web origins and apps may use a site's client-side token generation (operator chapter, 9.5)."""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

LOCALHOST: Final = "localhost"

_SCHEMES: Final = frozenset(("http", "https", "ftp", "file", "jar"))
_LABEL: Final = re.compile(r"(?!-)[^\W]([\w-]*[^\W_])?|[^\W_]")
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 253
_PORT: Final = re.compile(r"[0-9]*")


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


def registrable_domain(origin: str) -> str | None:
    """The domain an `Origin` belongs to: public suffix and one label, or `localhost`; None when it has none."""
    host = _host(origin)
    if host is None:
        return None
    domain = _suffixes().privatesuffix(host)
    if domain is not None:
        return str(domain)
    labels = host.split(".")
    return LOCALHOST if labels[-1] == LOCALHOST and len(labels) <= 2 else None


def is_allowed_origin(origin: str | None, domain_names: Collection[str]) -> bool:
    """Whether the origin's registrable domain is one of the site's, compared exactly."""
    if not origin:
        return False
    domain = registrable_domain(origin)
    return domain is not None and domain in domain_names


def is_allowed_app(app_name: str, app_names: Collection[str]) -> bool:
    """Whether the app is one of the site's, whatever its letter case."""
    wanted = app_name.casefold()
    return any(name.casefold() == wanted for name in app_names)


def _host(origin: str) -> str | None:
    """The lower-case domain name of a URL; None for other schemes, addresses and malformed names."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or parts.hostname is None:
        return None
    _, colon, port = parts.netloc.rpartition("@")[2].partition(":")
    if colon and not _PORT.fullmatch(port):
        return None
    host = parts.hostname.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > _LONGEST_NAME or labels[-1][:1].isdigit():
        return None
    return host if all(len(label) <= _LONGEST_LABEL and _LABEL.fullmatch(label) for label in labels) else None
