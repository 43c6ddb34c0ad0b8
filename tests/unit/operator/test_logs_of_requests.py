"""The usage log and the lines about errors (operator chapter, 14.1), on the whole application."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from uid2.operator.error_log import log_refusal
from uid2.operator.settings import settings_of
from uid2.operator.usage_log import MOST_DOMAINS, NOT_RECORDED, UsageLog
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock
from uid2.service.http import Headers, Request, Response
from uid2.service.messages import JSON, json_response

KNOWN = frozenset({"/v2/token/generate", "/ops/healthcheck"})


class Counting:
    def __init__(self) -> None:
        self.names: list[str] = []

    def count(self, name: str, amount: float = 1, **_: str) -> None:
        self.names += [name] * int(amount)


@pytest.fixture
def context() -> Any:
    clock = FixedClock(EpochMillis(1_750_000_000_000))
    return SimpleNamespace(clock=clock, metrics=Counting(), settings=settings_of({}))


def request(path: str = "/v2/token/generate", site: int | None = None, known: bool = True, **headers: str) -> Request:
    fields = Headers.of({name.replace("_", "-"): value for name, value in headers.items()})
    made = Request("POST", path, headers=fields, client="192.0.2.1", route_path=path if known else None)
    if site is not None:
        made.attributes["client"] = SimpleNamespace(site_id=site, contact=f"contact {site}")
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def flush(log: UsageLog, context: Any) -> None:
    context.clock.advance(60_000)
    log(request("/ops/healthcheck"), Response(200))


def test_a_minutes_use_is_one_line_per_path(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = UsageLog(context, KNOWN)
    for _ in range(3):
        log(request(site=7, referer="https://user@test.com:8080/someone@example.com?q"), Response(200))
    log(request(), Response(401))
    assert not lines(caplog)
    flush(log, context)
    line = json.loads(next(text for text in lines(caplog) if "token/generate" in text))
    assert line == {
        "endpoint": "token/generate",
        "siteId": 7,
        "apiVersion": "v2",
        "domainList": [
            {"domain": "test.com", "count": 3, "apiContact": "contact 7"},
            {"domain": "unknown", "count": 1, "apiContact": "unknown"},
        ],
    }
    assert not any("someone" in text for text in lines(caplog))
    caplog.clear()
    flush(log, context)
    assert not any("token/generate" in text for text in lines(caplog))


def test_domains_are_bounded(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = UsageLog(context, KNOWN)
    for number in range(MOST_DOMAINS + 5):
        log(request(referer=f"https://d{number}.example/"), Response(200))
    assert context.metrics.names == ["uid2_api_usage_domain_missed_total"] * 5
    log.flush()
    assert len(json.loads(lines(caplog)[0])["domainList"]) == MOST_DOMAINS


def test_other_paths_are_kept_for_known_callers_up_to_a_limit(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    context.settings = replace(context.settings, logging_limit_max_invalid_paths_per_interval=3)
    log = UsageLog(context, KNOWN)
    log(request("/nowhere", known=False), Response(404))
    for number in range(9):
        log(request(f"/nowhere/{number}", site=1, known=False), Response(404))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    caplog.clear()
    log.flush()
    assert [json.loads(text)["endpoint"] for text in lines(caplog)] == [f"nowhere/{number}" for number in range(5)]


def test_versions_are_counted_for_ever_and_the_smallest_merged(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    context.settings = replace(context.settings, logging_limit_max_version_buckets_per_site=4)
    log = UsageLog(context, KNOWN)
    for version, number in (("a", 5), ("b", 1), ("c", 2), ("d", 3), ("e", 1)):
        for _ in range(number):
            log(request(site=7, x_uid2_client_version=version), Response(200))
    log.flush()
    text = next(line for line in lines(caplog) if line.startswith("version log; siteId=7 versions="))
    assert json.loads(text.partition("versions=")[2]) == {"a": 5, NOT_RECORDED: 6, "e": 1}


def test_preflights_are_not_used_for_anything(context: Any) -> None:
    log = UsageLog(context, KNOWN)
    made = request(site=7, x_uid2_client_version="x")
    made.method = "OPTIONS"
    log(made, Response(204))
    assert not log._paths
    assert not log._versions


def test_an_error_is_told_without_the_page_it_came_from(caplog: pytest.LogCaptureFixture) -> None:
    made = request(site=7, referer="https://shop.example/someone@example.com?email=x", origin="https://shop.example")
    log_refusal(made, json_response(400, {"status": "client_error", "message": "Invalid Identifier"}))
    (record,) = caplog.records
    text = record.getMessage()
    assert record.levelno == logging.WARNING
    assert json.loads(text.removeprefix("Response to http request. ")) == {
        "errorStatus": "client_error",
        "contact": "contact 7",
        "siteId": 7,
        "path": "/v2/token/generate",
        "statusCode": 400,
        "clientAddress": "192.0.2.1",
        "message": "Invalid Identifier",
        "referer": "https://shop.example",
        "origin": "https://shop.example",
    }


def test_only_worded_errors_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for response in (Response(200, b"{}", JSON), Response(413, b"Request Too Long"), Response(404)):
        log_refusal(request(), response)
    assert not caplog.records
    log_refusal(request(referer="https://["), json_response(500, {"status": "unknown"}))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "referer" not in record.getMessage()
