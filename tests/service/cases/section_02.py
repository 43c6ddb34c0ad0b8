"""Cross-origin rules (2.1)."""

from collections.abc import Callable

from case import Case, bare
from stage import FULL_KEY, Answer, Stage

HEADERS = (
    "X-UID2-Client-Version,Access-Control-Request-Method,Access-Control-Allow-Credentials,"
    "Access-Control-Allow-Origin,Access-Control-Allow-Headers,Content-Type"
)
ORIGIN = "https://www.example.com"


def allows(headers: str) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert answer.headers == {
            "content-length": "0",
            "access-control-allow-origin": ORIGIN,
            "access-control-allow-methods": "GET,POST,OPTIONS",
            "access-control-allow-headers": headers,
            "vary": "origin",
        }

    return check


def echoed(_: Stage, answer: Answer) -> None:
    assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (ORIGIN, "origin")
    assert "access-control-allow-credentials" not in answer.headers


def varies(_: Stage, answer: Answer) -> None:
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in answer.headers


ASKED = {"origin": ORIGIN, "access_control_request_method": "POST"}

CASES = [
    Case("2.1", "preflight", "known path", bare("OPTIONS", "/v2/token/refresh", **ASKED), 204, check=allows(HEADERS)),
    Case("2.1", "preflight", "unknown path", bare("OPTIONS", "/nowhere", **ASKED), 204, check=allows(HEADERS)),
    Case(
        "2.1",
        "validate",
        "may carry a key",
        bare("OPTIONS", "/v2/token/validate", **ASKED),
        204,
        check=allows(HEADERS + ",Authorization"),
    ),
    Case("2.1", "origin", "on an error", bare("POST", "/v2/key/latest", origin=ORIGIN), 401, check=echoed),
    Case("2.1", "origin", "on an unknown path", bare("GET", "/nowhere", origin=ORIGIN), 404, check=echoed),
    Case(
        "2.1", "origin", "OPTIONS without the method asked for", bare("OPTIONS", "/v2/key/latest", origin=ORIGIN), 405
    ),
    Case("2.1", "none", "vary only", bare("POST", "/v2/key/latest", key=FULL_KEY), 400, check=varies),
    Case("2.1", "empty", "refused", bare("GET", "/ops/healthcheck", origin=""), 403, text="Forbidden"),
]
