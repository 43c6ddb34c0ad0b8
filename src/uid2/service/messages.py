"""HTTP requests and responses as the handlers see them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import msgspec

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain"

# Reason phrases of the platform where they differ from the registered ones.
_PHRASES = {413: "Request Too Long"}


class Headers:
    """Header fields by name in any letter case; of a repeated name the first value counts."""

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        values: dict[str, str] = {}
        for name, value in fields:
            values.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self._values = values

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Headers":
        return cls((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items())

    def get(self, name: str) -> str | None:
        return self._values.get(name.lower())

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


@dataclass(slots=True)
class Request:
    """One request. `path` is normalised, `client` the address after X-Forwarded-For, `peer` that of the socket.

    `query` holds the first value of each name, `query_string` the whole text.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    client: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    peer: str = ""
    host: str = ""
    scheme: str = "http"
    route_path: str | None = None
    query_string: str = ""

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def is_octet_stream(self) -> bool:
        """The one content type that changes behaviour: exact, any letter case, no parameters."""
        return (self.header("content-type") or "").lower() == "application/octet-stream"

    def text(self) -> str:
        """The body as text in the charset that the content type names, else UTF-8; bad bytes are replaced."""
        charset = "utf-8"
        for parameter in (self.header("content-type") or "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        try:
            return self.body.decode(charset, "replace")
        except (LookupError, ValueError, AssertionError):
            return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Response:
    """One response; `content_type` None sends no such header."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def with_headers(self, *fields: tuple[str, str]) -> "Response":
        return replace(self, headers=self.headers + fields)


def json_response(status: int, document: object) -> Response:
    return Response(status, msgspec.json.encode(document), JSON)


def reason_phrase(status: int) -> str:
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Status"


def generic_failure(status: int) -> Response:
    """The answer to a failure that no handler worded: the reason phrase, no content type (2.5)."""
    return Response(status, reason_phrase(status).encode())


def not_found() -> Response:
    return Response(404, b"<html><body><h1>Resource not found</h1></body></html>", HTML)


def method_not_allowed(methods: Iterable[str]) -> Response:
    return Response(405, headers=(("allow", ",".join(sorted(methods))),))
