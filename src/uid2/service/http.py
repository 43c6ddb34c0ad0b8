"""The ASGI application: route table, limits, generic failures. No framework.

Order of a request (operator API, 1.2): `before` hooks (a response from one ends the request; CORS preflight), route
match, body within its limit, handler, `after` hooks (they add to whatever response follows), answer, `completed`
hooks (metrics, usage log).
"""

import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from uid2.service.messages import (
    Headers,
    Request,
    Response,
    generic_failure,
    json_response,
    method_not_allowed,
    not_found,
)
from uid2.service.paths import normalize_path

__all__ = [
    "BODY_LIMIT",
    "Application",
    "Headers",
    "Request",
    "Response",
    "Route",
    "Router",
    "generic_failure",
    "json_response",
    "method_not_allowed",
    "not_found",
]

BODY_LIMIT = 1 << 20

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]
BeforeHook = Callable[[Request], Response | None]
AfterHook = Callable[[Request, Response], Response]
CompletedHook = Callable[[Request, Response], None]

_NOT_IN_HEADERS = re.compile(r"[^\t\x20-\x7e\x80-\xff]")

_log = logging.getLogger(__name__)


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class BodyTooLargeError(Exception):
    """The body is longer than its route allows."""


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` on `path`; a path that ends in `/*` serves everything below that prefix."""

    methods: tuple[str, ...]
    path: str
    handler: Handler
    body_limit: int = BODY_LIMIT


class Router:
    """Exact paths first, then the longest prefix."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        table, key = (self._prefixes, route.path[:-1]) if route.path.endswith("/*") else (self._exact, route.path)
        by_method = table.setdefault(key, {})
        for method in route.methods:
            if method in by_method:
                raise ValueError(f"two routes for {method} {route.path}")
            by_method[method] = route

    def methods_at(self, path: str) -> dict[str, Route] | None:
        """The routes at a normalised path by method; None where there is none. One trailing slash is tolerated."""
        found = self._exact.get(path)
        if found is None and len(path) > 1 and path.endswith("/"):
            found = self._exact.get(path[:-1])
        if found is None:
            fitting = [prefix for prefix in self._prefixes if path.startswith(prefix)]
            found = self._prefixes[max(fitting, key=len)] if fitting else None
        return found


class Application:
    """An ASGI application over a router."""

    def __init__(
        self,
        router: Router,
        *,
        before: Sequence[BeforeHook] = (),
        after: Sequence[AfterHook] = (),
        completed: Sequence[CompletedHook] = (),
    ) -> None:
        self._router = router
        self._before = tuple(before)
        self._after = tuple(after)
        self._completed = tuple(completed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only http is served, not {scope['type']}")
        request = request_of(scope)
        try:
            response = await self._answer(request, receive)
        except ClientGoneError:
            _log.warning("client disconnected before its request was complete")
            return
        await _send_response(send, response)
        for hook in self._completed:
            try:
                hook(request, response)
            except Exception as error:  # noqa: BLE001 - the answer is out; a failing counter must not end the task
                _log_failure("a completion hook failed", error)

    async def respond(self, request: Request) -> Response:
        """The response to a request whose body is already there (tests, in-process callers)."""

        async def whole_body() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        response = await self._answer(request, whole_body)
        for hook in self._completed:
            hook(request, response)
        return response

    async def _answer(self, request: Request, receive: Receive) -> Response:
        try:
            response = await self._handle(request, receive)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure of a handler is answered (2.5)
            _log_failure("a handler failed", error)
            response = generic_failure(500)
        for hook in self._after:
            response = hook(request, response)
        return response

    async def _handle(self, request: Request, receive: Receive) -> Response:
        for hook in self._before:
            early = hook(request)
            if early is not None:
                return early
        by_method = self._router.methods_at(request.path)
        if by_method is None:
            return not_found()
        route = by_method.get(request.method)
        if route is None:
            return method_not_allowed(by_method)
        request.route_path = route.path
        try:
            request.body = await _read_body(request, receive, route.body_limit)
        except BodyTooLargeError:
            response = generic_failure(413)
            # A client that waits for 100 Continue would otherwise leave it open whether its body follows.
            return response.with_headers(("connection", "close")) if "expect" in request.headers else response
        return await route.handler(request)


def request_of(scope: Scope) -> Request:
    """The request of an ASGI scope, body still empty. X-Forwarded-* is believed, its first element wins (2.2)."""
    headers = Headers(scope["headers"])
    peer = scope["client"][0] if scope.get("client") else ""
    raw_path = scope.get("raw_path")
    path = raw_path.decode("latin-1") if raw_path else scope["path"]
    scheme = _first_element(headers.get("x-forwarded-proto"))
    if not scheme:
        scheme = "https" if (headers.get("x-forwarded-ssl") or "").lower() == "on" else scope.get("scheme", "http")
    host = _first_element(headers.get("x-forwarded-host")) or headers.get("host") or ""
    forwarded_port = _first_element(headers.get("x-forwarded-port"))
    if forwarded_port.isdigit() and host and not host.startswith("["):
        host = f"{host.partition(':')[0]}:{forwarded_port}"
    query: dict[str, str] = {}
    query_string = scope.get("query_string", b"")
    if query_string:
        for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
            query.setdefault(name, value)
    return Request(
        method=scope["method"],
        path=normalize_path(path),
        query=query,
        headers=headers,
        client=_first_element(headers.get("x-forwarded-for")) or peer,
        peer=peer,
        host=host,
        scheme=scheme,
        query_string=query_string.decode("latin-1"),
    )


def _first_element(value: str | None) -> str:
    return value.partition(",")[0].strip() if value else ""


async def _read_body(request: Request, receive: Receive, limit: int) -> bytes:
    """The whole body. A multipart form is read within the limit and dropped: it looks like a missing body (2.2)."""
    length = request.header("content-length")
    if length is not None and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise BodyTooLargeError
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        part = event.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLargeError
        parts.append(part)
        more = event.get("more_body", False)
    if (request.header("content-type") or "").lower().startswith("multipart/form-data"):
        return b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send_response(send: Send, response: Response) -> None:
    # An echoed value (origin, trace id) that no header may hold is left out.
    fields = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
        if not _NOT_IN_HEADERS.search(value)
    ]
    if response.content_type is not None:
        fields.append((b"content-type", response.content_type.encode("latin-1")))
    if not any(name.lower() == b"content-length" for name, _ in fields):
        fields.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": fields})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def _log_failure(what: str, error: BaseException) -> None:
    """Type and place of an error. Its text is left out: it may quote the request."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
    _log.error(what, extra={"error_type": type(error).__name__, "places": places})
