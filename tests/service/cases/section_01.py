"""Routing and static files (1.3, 1.4)."""

import os
from pathlib import Path
from typing import Any

from case import Case, bare, call
from stage import FULL_KEY, Answer, Stage

HERE = Path(__file__).parent
THIS = Path(__file__).name
PATH = f"/static/{THIS}"
NOT_FOUND = "<html><body><h1>Resource not found</h1></body></html>"
STATIC: dict[str, Any] = {"static_dir": str(HERE)}


def html(_: Stage, answer: Answer) -> None:
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def names_methods(_: Stage, answer: Answer) -> None:
    assert (answer.headers["allow"], answer.body) == ("POST", b"")


def whole_file(_: Stage, answer: Answer) -> None:
    assert answer.body == (HERE / THIS).read_bytes()
    assert answer.headers["cache-control"] == "public, immutable, max-age=86400"
    assert answer.headers["last-modified"].endswith(" GMT")
    assert answer.headers["content-type"].startswith("text/x-python")


def part(first: int, last: int) -> Any:
    def check(_: Stage, answer: Answer) -> None:
        data = (HERE / THIS).read_bytes()
        place = range(len(data))[first:last]
        assert answer.body == data[first:last]
        assert answer.headers["content-range"] == f"bytes {place[0]}-{place[-1]}/{len(data)}"

    return check


def beyond(_: Stage, answer: Answer) -> None:
    assert answer.headers["content-range"] == f"bytes */{os.path.getsize(HERE / THIS)}"


OFF = {"client_side_token_generate": False, "optout_status_api_enabled": False}
RECENT, LONG_AGO = "Fri, 31 Dec 2100 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"

CASES = [
    Case("1.3", "path", "unknown", bare("POST", "/v1/token/generate", key=FULL_KEY), 404, text=NOT_FOUND, check=html),
    Case("1.3", "path", "letter case counts", bare("POST", "/V2/token/generate"), 404, text=NOT_FOUND),
    Case("1.3", "path", "one trailing slash is tolerated", bare("POST", "/v2/token/generate/"), 401),
    Case("1.3", "path", "dots and slashes are resolved", bare("POST", "/v2//x/../token/generate"), 401),
    Case("1.3", "method", "GET on a POST path", bare("GET", "/v2/identity/map"), 405, check=names_methods),
    Case("1.3", "method", "HEAD on the health check", bare("HEAD", "/ops/healthcheck"), 405),
    Case("1.3", "disabled", "CSTG", bare("POST", "/v2/token/client-generate"), 404, text=NOT_FOUND, settings=OFF),
    Case("1.3", "disabled", "opt-out status", call("/v2/optout/status"), 404, text=NOT_FOUND, settings=OFF),
    Case("1.4", "file", "served with its headers", bare("GET", PATH), settings=STATIC, check=whole_file),
    Case("1.4", "file", "HEAD", bare("HEAD", PATH), settings=STATIC),
    Case("1.4", "file", "POST is no method of files", bare("POST", PATH), 405, settings=STATIC),
    Case("1.4", "missing", "no such file", bare("GET", "/static/none.js"), 404, text=NOT_FOUND, settings=STATIC),
    Case("1.4", "missing", "no listing", bare("GET", "/static/"), 404, text=NOT_FOUND, settings=STATIC),
    Case("1.4", "missing", "no folder configured", bare("GET", PATH), 404, text=NOT_FOUND),
    Case("1.4", "missing", "a very long name", bare("GET", "/static/" + "a" * 3000), 404, settings=STATIC),
    Case("1.4", "missing", "a zero byte", bare("GET", "/static/a%00b"), 404, settings=STATIC),
    Case(
        "1.4",
        "conditional",
        "not modified since",
        bare("GET", PATH, if_modified_since=RECENT),
        304,
        text="",
        settings=STATIC,
    ),
    Case("1.4", "conditional", "modified since", bare("GET", PATH, if_modified_since=LONG_AGO), settings=STATIC),
    Case("1.4", "conditional", "no date at all", bare("GET", PATH, if_modified_since="?"), settings=STATIC),
    Case(
        "1.4",
        "conditional",
        "first bytes",
        bare("GET", PATH, range="bytes=0-4"),
        206,
        settings=STATIC,
        check=part(0, 5),
    ),
    Case(
        "1.4",
        "conditional",
        "last bytes",
        bare("GET", PATH, range="bytes=-7"),
        206,
        settings=STATIC,
        check=part(-7, 1 << 30),
    ),
    Case(
        "1.4",
        "conditional",
        "beyond the end",
        bare("GET", PATH, range="bytes=99999999-"),
        416,
        settings=STATIC,
        check=beyond,
    ),
    Case(
        "1.4",
        "conditional",
        "a number of 5,000 digits",
        bare("GET", PATH, range=f"bytes={'9' * 5000}-"),
        settings=STATIC,
        check=whole_file,
    ),
    Case(
        "1.4", "conditional", "no number at all", bare("GET", PATH, range="bytes=-"), settings=STATIC, check=whole_file
    ),
    Case(
        "1.4", "conditional", "no last bytes", bare("GET", PATH, range="bytes=-0"), 416, settings=STATIC, check=beyond
    ),
    Case(
        "1.4",
        "conditional",
        "first after last",
        bare("GET", PATH, range="bytes=5-4"),
        settings=STATIC,
        check=whole_file,
    ),
    Case("1.4", "outside", "encoded dots", bare("GET", "/static/..%2fcase.py"), 404, text=NOT_FOUND, settings=STATIC),
    Case("1.4", "outside", "an absolute path", bare("GET", "/static/%2fetc%2fpasswd"), 404, settings=STATIC),
]
