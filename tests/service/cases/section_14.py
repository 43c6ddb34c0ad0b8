"""What requests count (section 14.4)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from case import Case, bare, call, error
from stage import FULL_KEY, MAPPER_KEY, SERVICE_KEY, Answer, Stage

from uid2.operator.lanes import Lanes
from uid2.protocol.ids import Role

V2, V3, STATUS = "/v2/identity/map", "/v3/identity/map", "/v2/optout/status"
REQUESTS, SDK, APPS = "uid2_http_requests_total", "uid2_client_sdk_versions_total", "uid2_client_versions_total"
INPUTS = "uid2_operator_identity_map_inputs"
UNMAPPED = "uid2_operator_identity_map_unmapped_total"
UNMAPPED_REQUESTS = "uid2_operator_identity_map_unmapped_requests_total"
SERVICE_INPUTS = "uid2_operator_identity_map_services_inputs"
SERVICE_UNMAPPED = "uid2_operator_identity_map_services_unmapped_total"
RAW = "uid2_raw_uid_version_total"
SPECIAL = {"api_contact": "Special"}


def counts(name: str, number: float, **labels: Any) -> Callable[[Stage, Answer], None]:
    def check(stage: Stage, _: Answer) -> None:
        assert stage.metric(name, **labels) == number, stage.metrics.render().decode()

    return check


def all_of(*checks: Callable[[Stage, Answer], None]) -> Callable[[Stage, Answer], None]:
    def check(stage: Stage, answer: Answer) -> None:
        for one in checks:
            one(stage, answer)

    return check


def good_link(stage: Stage) -> None:
    link = stage.context.snapshot.service_links["2_testId2"]
    stage.exchange(service_links={link.key: replace(link, roles=frozenset({Role.MAPPER}))})


def link_without_service(stage: Stage) -> None:
    good_link(stage)
    stage.exchange(services={})


def no_room(stage: Stage) -> None:
    stage.close()
    stage.context.lanes = Lanes(1, queue_bytes=0, queue_seconds=1)


def retry_after(_: Stage, answer: Answer) -> None:
    assert int(answer.headers["retry-after"]) > 0


def gone(stage: Stage) -> None:
    stage.opt_out("gone@example.com", bytes(range(32)))


REFUSED = {"api_contact": "unknown", "site_id": "null", "site_name": "unknown", "status": "401", "method": "POST"}
PEOPLE = ["a@b.c", "b@b.c", "x", "gone@example.com", "optout@example.com"]
LINKED = {"email": PEOPLE, "link_id": "testId2"}
LABELS = {"service_name": "AWS Venice", "service_link_name": "testName2"}
IDS = {"advertising_ids": ["x", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]}

CASES = [
    Case(
        "14.4",
        "requests",
        "refused",
        bare("POST", V2, host="op.example.com"),
        401,
        check=counts(REQUESTS, 1, path=V2, host="op.example.com", **REFUSED),
    ),
    Case("14.4", "requests", "unmatched", bare("POST", "/x"), 404, check=counts(REQUESTS, 1, path="unknown")),
    Case("14.4", "requests", "no host", bare("POST", "/x"), 404, check=counts(REQUESTS, 1, host="NotSpecified")),
    Case(
        "14.4",
        "requests",
        "inner hosts",
        bare("POST", "/x", host="10.1.2.3:80"),
        404,
        check=counts(REQUESTS, 1, host="10.x.x.x:xx"),
    ),
    Case(
        "14.4",
        "requests",
        "known caller",
        call(V2, {"email": []}),
        check=counts(REQUESTS, 1, site_id="999", status="200", api_contact="Special"),
    ),
    Case(
        "14.4",
        "requests",
        "preflight",
        bare("OPTIONS", V2, origin="https://a.b", access_control_request_method="POST"),
        204,
        check=counts(REQUESTS, 1, method="OPTIONS", status="204"),
    ),
    Case(
        "14.4",
        "versions",
        "SDK on map v2",
        call(V2, {"email": []}, x_uid2_client_version="uid2-client-java_1"),
        check=counts(SDK, 1, client_version="uid2-client-java_1", path=V2, site_id="999", api_contact="Special"),
    ),
    Case(
        "14.4",
        "versions",
        "not on map v3",
        call(V3, {"email": []}, x_uid2_client_version="uid2-client-java_1"),
        check=counts(SDK, 0),
    ),
    Case(
        "14.4",
        "versions",
        "query",
        bare("POST", f"{V2}?client=sdk", key=FULL_KEY),
        400,
        check=counts(SDK, 1, client_version="sdk"),
    ),
    Case(
        "14.4",
        "versions",
        "apps",
        bare("POST", "/x", x_uid2_appversion="app=1.2;lib=3;x"),
        404,
        check=all_of(counts(APPS, 2), counts(APPS, 1, client_name="app", client_version="1.2")),
    ),
    Case(
        "14.4",
        "map",
        "v2",
        call(V2, {"email": PEOPLE}),
        prepare=gone,
        check=all_of(
            counts(INPUTS, 1, path=V2, dii_type="email", **SPECIAL),
            counts(INPUTS, 1),
            counts(UNMAPPED, 1, reason="invalid", path=V2, **SPECIAL),
            counts(UNMAPPED, 2, reason="optout", path=V2),
            counts(UNMAPPED_REQUESTS, 1, path=V2, **SPECIAL),
            counts(SERVICE_INPUTS, 0),
        ),
    ),
    Case(
        "14.4",
        "map",
        "v3",
        call(V3, {"email": PEOPLE, "phone": ["x"]}, MAPPER_KEY),
        check=all_of(
            counts(INPUTS, 2, path=V3, api_contact="Advertiser"),
            counts(INPUTS, 1, dii_type="phone"),
            counts(UNMAPPED, 2, reason="invalid"),
            counts(UNMAPPED_REQUESTS, 1),
        ),
    ),
    Case("14.4", "map", "nothing unmapped", call(V3, {"email": ["a@b.c"]}), check=counts(UNMAPPED_REQUESTS, 0)),
    Case(
        "14.4",
        "links",
        "named",
        call(V2, LINKED, SERVICE_KEY),
        settings={"validate_service_links": True},
        prepare=good_link,
        check=all_of(
            counts(SERVICE_INPUTS, 1, dii_type="email", path=V2, **LABELS),
            counts(SERVICE_UNMAPPED, 1, reason="invalid", **LABELS),
            counts(SERVICE_UNMAPPED, 1, reason="optout", **LABELS),
            counts(INPUTS, 1),
        ),
    ),
    Case(
        "14.4",
        "links",
        "not without the service's record",
        call(V2, LINKED, SERVICE_KEY),
        settings={"validate_service_links": True},
        prepare=link_without_service,
        check=all_of(counts(SERVICE_INPUTS, 0), counts(INPUTS, 1)),
    ),
    Case(
        "14.4",
        "optout",
        "asked and found",
        call(STATUS, IDS),
        prepare=gone,
        check=all_of(
            counts("uid2_operator_optout_status_input_size", 1, **SPECIAL),
            counts("uid2_operator_optout_status_optout_size", 1, **SPECIAL),
        ),
    ),
    Case(
        "14.4",
        "busy",
        "refused, counted, to be tried again",
        call(V2, {"email": PEOPLE * 200}),
        429,
        error("too many large requests are waiting; try again shortly", "too_many_requests"),
        prepare=no_room,
        check=all_of(counts("uid2_operator_bulk_refused_total", 1), retry_after),
    ),
    Case(
        "14.4",
        "raw",
        "v2 and v4",
        call(V3, {"email": [f"u{n}@example.com" for n in range(30)]}),
        check=all_of(counts(RAW, 30)),
    ),
]
