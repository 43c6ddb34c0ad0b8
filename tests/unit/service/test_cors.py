import asyncio

import pytest

from uid2.service.cors import CORE_HEADERS, OPERATOR_HEADERS, CrossOriginRules, core_rules, operator_rules
from uid2.service.http import Application, Headers, Request, Response, Route, Router


async def greet(_: Request) -> Response:
    return Response(200, b"hello")


def answer(rules: CrossOriginRules, method: str, path: str, headers: dict[str, str]) -> Response:
    app = Application(Router([Route(("POST",), "/v2/x", greet)]), before=[rules.before], after=[rules.after])
    return asyncio.run(app.respond(Request(method, path, headers=Headers.of(headers))))


ORIGIN = {"Origin": "https://shop.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        (operator_rules(), "/v2/x", OPERATOR_HEADERS),
        (operator_rules(), "/unknown", OPERATOR_HEADERS),
        (operator_rules(), "/v2/token/validate", OPERATOR_HEADERS + ",Authorization"),
        (core_rules(), "/attest", CORE_HEADERS),
    ],
)
def test_preflight(rules: CrossOriginRules, path: str, allowed: str) -> None:
    response = answer(rules, "OPTIONS", path, PREFLIGHT)
    assert (response.status, response.body, response.content_type) == (204, b"", None)
    assert dict(response.headers) == {
        "content-length": "0",
        "access-control-allow-origin": "https://shop.example",
        "access-control-allow-methods": "GET,POST,OPTIONS",
        "access-control-allow-headers": allowed,
        "vary": "origin",
    }


@pytest.mark.parametrize(("path", "status"), [("/v2/x", 200), ("/unknown", 404)])
def test_the_origin_is_echoed_on_whatever_follows(path: str, status: int) -> None:
    response = answer(operator_rules(), "POST", path, ORIGIN)
    assert response.status == status
    assert ("access-control-allow-origin", "https://shop.example") in response.headers
    assert ("vary", "origin") in response.headers


def test_without_origin_only_vary_is_added() -> None:
    response = answer(operator_rules(), "POST", "/v2/x", {})
    assert response.headers == (("vary", "origin"),)


def test_an_empty_origin_is_refused() -> None:
    response = answer(operator_rules(), "POST", "/v2/x", {"Origin": ""})
    assert (response.status, response.body) == (403, b"Forbidden")


def test_options_without_the_request_method_is_no_preflight() -> None:
    assert answer(operator_rules(), "OPTIONS", "/v2/x", ORIGIN).status == 405
