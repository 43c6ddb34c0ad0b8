"""Keys, roles and service links (section 3)."""

from dataclasses import replace

from case import Ask, Case, bare, call, error, success
from stage import (
    FULL_KEY,
    MAPPER_KEY,
    OPTOUT_KEY,
    PUBLISHER_KEY,
    READER_KEY,
    SERVICE_KEY,
    SHARER_KEY,
    Answer,
    Stage,
)

from uid2.protocol.ids import Role
from uid2.protocol.services import ServiceLink

UNAUTHORIZED = {"status": "unauthorized"}
BAD_LINK = error("Invalid link_id", "unauthorized")
NOTHING_MAPPED = success({"mapped": []})
MAP, MAP_V3, GENERATE = "/v2/identity/map", "/v3/identity/map", "/v2/token/generate"
EMPTY: dict[str, list[str]] = {"email": []}
LINKS = {"validate_service_links": True}


def traced(_: Stage, answer: Answer) -> None:
    assert answer.headers["x-amzn-trace-id"] == "Root=1"


def disable(stage: Stage) -> None:
    stage.change_client(FULL_KEY, disabled=True)


def refused(path: str, title: str, authorization: str | None, row: str = "missing") -> Case:
    headers = {} if authorization is None else {"authorization": authorization}
    return Case("3.3", row, title, bare("POST", path, b"?", **headers), 401, UNAUTHORIZED)


def role(name: str, path: str, having: str, lacking: str, document: object = None) -> list[Case]:
    """One caller that gets past the role check, one that does not."""

    def admitted(_: Stage, answer: Answer) -> None:
        assert answer.document != UNAUTHORIZED

    without = f"{path} without it"
    return [
        Case("3.4", name, f"{path} with it", call(path, document, having), check=admitted),
        Case("3.4", name, without, call(path, document, lacking), 401, UNAUTHORIZED),
    ]


IDENTITY = {"email": "a@b.c"}
SINCE = {"since_timestamp": "2100-01-01T00:00"}
NO_IDS: dict[str, list[str]] = {"advertising_ids": []}

ROLES = [
    *role("GENERATOR", GENERATE, PUBLISHER_KEY, READER_KEY, IDENTITY),
    *role("MAPPER", MAP, MAPPER_KEY, PUBLISHER_KEY, EMPTY),
    *role("MAPPER", MAP_V3, MAPPER_KEY, READER_KEY, EMPTY),
    *role("MAPPER", "/v2/identity/buckets", MAPPER_KEY, OPTOUT_KEY, SINCE),
    *role("MAPPER", "/v2/optout/status", MAPPER_KEY, PUBLISHER_KEY, NO_IDS),
    *role("ID_READER", "/v2/key/latest", READER_KEY, SHARER_KEY),
    *role("ID_READER", "/v2/key/bidstream", READER_KEY, SHARER_KEY),
    *role("ID_READER", "/v2/key/sharing", READER_KEY, MAPPER_KEY),
    Case("3.4", "ID_READER", "optout/status", call("/v2/optout/status", NO_IDS, READER_KEY)),
    *role("SHARER", "/v2/key/sharing", SHARER_KEY, PUBLISHER_KEY),
    Case("3.4", "SHARER", "optout/status", call("/v2/optout/status", NO_IDS, SHARER_KEY)),
    *role("OPTOUT", "/v2/token/logout", OPTOUT_KEY, READER_KEY, IDENTITY),
    Case("3.4", "GENERATOR", "token/validate", call("/v2/token/validate", IDENTITY, PUBLISHER_KEY), 400),
    Case("3.4", "GENERATOR", "not token/validate", call("/v2/token/validate", IDENTITY, READER_KEY), 401, UNAUTHORIZED),
]


def good_link(stage: Stage, **changes: object) -> None:
    link = stage.context.snapshot.service_links["2_testId2"]
    accepted = replace(link, roles=frozenset({Role.MAPPER}), **changes)  # type: ignore[arg-type]
    stage.exchange(service_links={accepted.key: accepted})


def disabled_link(stage: Stage) -> None:
    good_link(stage, disabled=True)


def link_of_other_role(stage: Stage) -> None:
    link: ServiceLink = stage.context.snapshot.service_links["2_testId2"]
    stage.exchange(service_links={link.key: replace(link, roles=frozenset({Role.SHARER}))})


def linked(link_id: object, key: str = SERVICE_KEY) -> Ask:
    return call(MAP, {"email": [], "link_id": link_id}, key)


CASES = [
    refused(GENERATE, "no header", None),
    refused(GENERATE, "empty header", ""),
    refused(GENERATE, "other scheme", f"Basic {FULL_KEY}"),
    refused(GENERATE, "a scheme of the same length", f"Custom {FULL_KEY}"),
    refused(GENERATE, "no key after the scheme", "Bearer "),
    refused(GENERATE, "two spaces", f"Bearer  {FULL_KEY}", "unknown"),
    refused(GENERATE, "site number beyond 32 bits", "Bearer UID2-C-L-99999999999-aaaaaa." + "b" * 38, "unknown"),
    refused(GENERATE, "some text", "Bearer nobody", "unknown"),
    Case(
        "3.3", "missing", "the trace id is echoed", bare("POST", GENERATE, x_amzn_trace_id="Root=1"), 401, check=traced
    ),
    Case("3.3", "disabled", "as an unknown key", call(GENERATE, IDENTITY), 401, UNAUTHORIZED, prepare=disable),
    Case("3.3", "role", "as an unknown key", call(GENERATE, IDENTITY, READER_KEY), 401, UNAUTHORIZED),
    *ROLES,
    Case("3.6", "1", "link_id is ignored", linked("none", MAPPER_KEY), json=NOTHING_MAPPED, settings=LINKS),
    Case("3.6", "1", "without validation", linked("none", MAPPER_KEY), json=NOTHING_MAPPED),
    Case("3.6", "2", "with a good link", linked("testId2"), 401, BAD_LINK, prepare=good_link),
    Case("3.6", "2", "without a link", call(MAP, EMPTY, SERVICE_KEY), 401, BAD_LINK),
    Case("3.6", "2", "on v3", call(MAP_V3, EMPTY, SERVICE_KEY), 401, BAD_LINK),
    Case("3.6", "3", "v2", call(MAP, EMPTY, SERVICE_KEY), json=NOTHING_MAPPED, settings=LINKS),
    Case("3.6", "3", "v3", call(MAP_V3, EMPTY, SERVICE_KEY), settings=LINKS),
    Case("3.6", "4", "null", linked(None), 401, BAD_LINK, settings=LINKS),
    Case("3.6", "4", "unknown", linked("x"), 401, BAD_LINK, settings=LINKS, prepare=good_link),
    Case("3.6", "4", "of another service", linked("testId1"), 401, BAD_LINK, settings=LINKS),
    Case("3.6", "4", "without roles", linked("testId2"), 401, BAD_LINK, settings=LINKS),
    Case("3.6", "4", "disabled", linked("testId2"), 401, BAD_LINK, settings=LINKS, prepare=disabled_link),
    Case("3.6", "4", "another role", linked("testId2"), 401, BAD_LINK, settings=LINKS, prepare=link_of_other_role),
    Case("3.6", "5", "accepted", linked("testId2"), json=NOTHING_MAPPED, settings=LINKS, prepare=good_link),
]
