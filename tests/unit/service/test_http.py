import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.service.http import (
    BODY_LIMIT,
    Application,
    Headers,
    Request,
    Response,
    Route,
    Router,
    generic_failure,
    json_response,
    request_of,
)
from uid2.service.paths import normalize_path


async def echo(request: Request) -> Response:
    return Response(200, request.body)


async def broken(_: Request) -> Response:
    raise RuntimeError("canary-in-the-text")


def application(**hooks: Any) -> Application:
    return Application(
        Router(
            [
                Route(("POST",), "/v2/echo", echo),
                Route(("GET", "HEAD"), "/static/*", echo),
                Route(("POST",), "/v2/broken", broken),
                Route(("POST",), "/v2/small", echo, body_limit=4),
            ]
        ),
        **hooks,
    )


def ask(
    app: Application,
    method: str,
    path: str,
    parts: tuple[bytes, ...] = (b"",),
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    disconnects: bool = False,
) -> list[MutableMapping[str, Any]]:
    """The messages that the application sends."""
    sent: list[MutableMapping[str, Any]] = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": disconnects or number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]

    async def receive() -> MutableMapping[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "client": ("192.0.2.7", 1234),
    }
    asyncio.run(app(scope, receive, send))
    return sent


def status_of(sent: list[MutableMapping[str, Any]]) -> int:
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("/v2/token/generate", "/v2/token/generate"),
        ("//v2///token//generate", "/v2/token/generate"),
        ("/v2/./token/../key", "/v2/key"),
        ("/../../v2", "/v2"),
        ("/v2/key/", "/v2/key/"),
        ("/v2/key/.", "/v2/key/"),
        ("/%76%32/%2e%2e/x", "/x"),
        ("/a%2Fb", "/a%2Fb"),
        ("", "/"),
        ("/..", "/"),
    ],
)
def test_paths_are_normalised(raw: str, normal: str) -> None:
    assert normalize_path(raw) == normal


@given(st.lists(st.sampled_from(["a", "..", ".", "", "%2e", "%2E%2e", "%41"])).map("/".join))
def test_normal_paths_stay_as_they_are_and_hold_no_dots(raw: str) -> None:
    normal = normalize_path(raw)
    assert normalize_path(normal) == normal
    assert normal.startswith("/")
    assert not {"..", "."} & set(normal.split("/"))
    assert "//" not in normal


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/echo", 200),
        ("POST", "/v2/echo/", 200),
        ("POST", "/v2/echo//", 200),
        ("POST", "/V2/echo", 404),
        ("POST", "/v2/echo/more", 404),
        ("GET", "/v2/echo", 405),
        ("GET", "/static/js/x.js", 200),
        ("HEAD", "/static/js/x.js", 200),
        ("POST", "/static/js/x.js", 405),
        ("GET", "/static", 404),
        ("GET", "/static/../secret", 404),
    ],
)
def test_routing(method: str, path: str, status: int) -> None:
    assert status_of(ask(application(), method, path)) == status


def test_unknown_paths_and_methods_are_answered_as_the_reference_does() -> None:
    start, body = ask(application(), "GET", "/nothing")
    assert body["body"] == b"<html><body><h1>Resource not found</h1></body></html>"
    assert (b"content-type", b"text/html; charset=utf-8") in start["headers"]
    start, body = ask(application(), "DELETE", "/static/x")
    assert body["body"] == b""
    assert (b"allow", b"GET,HEAD") in start["headers"]


@pytest.mark.parametrize(("size", "status"), [(BODY_LIMIT - 1, 200), (BODY_LIMIT, 200), (BODY_LIMIT + 1, 413)])
@pytest.mark.parametrize("announced", [True, False])
def test_body_limit(size: int, status: int, announced: bool) -> None:
    headers = ((b"content-length", str(size).encode()),) if announced else ()
    half = size // 2
    sent = ask(application(), "POST", "/v2/echo", (bytes(half), bytes(size - half)), headers)
    assert status_of(sent) == status
    if status == 413:
        assert sent[1]["body"] == b"Request Too Long"
        assert not [name for name, _ in sent[0]["headers"] if name == b"content-type"]


def test_each_route_has_its_limit() -> None:
    assert status_of(ask(application(), "POST", "/v2/small", (b"12345",))) == 413


def test_multipart_forms_look_like_a_missing_body() -> None:
    sent = ask(application(), "POST", "/v2/echo", (b"data",), ((b"content-type", b"multipart/form-data; boundary=x"),))
    assert sent[1]["body"] == b""


def test_a_failing_handler_is_answered_and_its_words_stay_inside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sent = ask(application(), "POST", "/v2/broken", (b"canary-in-the-body",))
    assert (status_of(sent), sent[1]["body"]) == (500, b"Internal Server Error")
    written = " ".join(str(record.__dict__) for record in caplog.records)
    assert "RuntimeError" in written
    assert "canary" not in written


def test_a_client_that_leaves_is_logged_and_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    assert ask(application(), "POST", "/v2/echo", (b"half",), disconnects=True) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_hooks_run_around_every_answer() -> None:
    seen: list[tuple[str, int, str | None]] = []

    def before(request: Request) -> Response | None:
        return generic_failure(403) if request.method == "TRACE" else None

    def after(_: Request, response: Response) -> Response:
        return response.with_headers(("x-seen", "1"))

    def completed(request: Request, response: Response) -> None:
        seen.append((request.path, response.status, request.route_path))
        raise RuntimeError

    app = application(before=[before], after=[after], completed=[completed])
    for method, path in (("POST", "/v2/echo"), ("TRACE", "/v2/echo"), ("GET", "/none"), ("POST", "/v2/broken")):
        assert (b"x-seen", b"1") in ask(app, method, path)[0]["headers"]
    assert seen == [
        ("/v2/echo", 200, "/v2/echo"),
        ("/v2/echo", 403, None),
        ("/none", 404, None),
        ("/v2/broken", 500, "/v2/broken"),
    ]


def test_header_values_that_no_header_may_hold_are_left_out() -> None:
    def after(_: Request, response: Response) -> Response:
        return response.with_headers(("x-good", "a b\xe9"), ("x-bad", "a\r\nset-cookie: b"))

    names = [name for name, _ in ask(application(after=[after]), "POST", "/v2/echo")[0]["headers"]]
    assert b"x-good" in names
    assert b"x-bad" not in names


def test_two_routes_for_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Router([Route(("GET",), "/x", echo), Route(("GET", "POST"), "/x", echo)])


def scope_with(*headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": query,
        "headers": list(headers),
        "client": ("192.0.2.7", 1),
        "scheme": "http",
    }


def test_forwarding_headers_are_believed_first_element_first() -> None:
    request = request_of(
        scope_with(
            (b"host", b"inner:8080"),
            (b"x-forwarded-for", b"198.51.100.4, 10.0.0.1"),
            (b"x-forwarded-host", b"outer.example, other"),
            (b"x-forwarded-port", b"8443"),
            (b"x-forwarded-proto", b"https,http"),
            (b"forwarded", b"for=203.0.113.9"),
        )
    )
    assert (request.client, request.peer) == ("198.51.100.4", "192.0.2.7")
    assert (request.host, request.scheme) == ("outer.example:8443", "https")


def test_without_forwarding_headers_the_socket_counts() -> None:
    request = request_of(scope_with((b"host", b"inner:8080"), query=b"client=sdk-1&client=sdk-2&empty="))
    assert (request.client, request.host, request.scheme) == ("192.0.2.7", "inner:8080", "http")
    assert request.query == {"client": "sdk-1", "empty": ""}


@pytest.mark.parametrize(
    ("content_type", "octets"),
    [
        ("application/octet-stream", True),
        ("Application/OCTET-stream", True),
        ("application/octet-stream; charset=utf-8", False),
        ("text/plain", False),
    ],
)
def test_one_content_type_means_bytes(content_type: str, octets: bool) -> None:
    assert Request("POST", "/", headers=Headers.of({"Content-Type": content_type})).is_octet_stream is octets


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", b"\xc3\xa9", "é"),
        ('text/plain; charset="ISO-8859-1"', b"\xe9", "é"),
        ("text/plain; charset=no-such", b"\xc3\xa9", "é"),
        ("text/plain; charset=hex", b"x", "x"),
        ("text/plain", b"\xff", "�"),
    ],
)
def test_text_of_a_body(content_type: str, body: bytes, text: str) -> None:
    assert Request("POST", "/", headers=Headers.of({"content-type": content_type}), body=body).text() == text


def test_headers_are_found_in_any_case_and_the_first_counts() -> None:
    headers = Headers([(b"X-One", b"a"), (b"x-one", b"b")])
    assert (headers.get("x-ONE"), "X-one" in headers, headers.get("y")) == ("a", True, None)


def test_responses() -> None:
    assert json_response(400, {"a": 1}) == Response(400, b'{"a":1}', "application/json")
    texts = {status: generic_failure(status).body for status in (400, 401, 403, 413, 417, 500)}
    assert texts == {
        400: b"Bad Request",
        401: b"Unauthorized",
        403: b"Forbidden",
        413: b"Request Too Long",
        417: b"Expectation Failed",
        500: b"Internal Server Error",
    }
    assert generic_failure(400).content_type is None
