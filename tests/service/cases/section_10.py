"""Identity map and buckets (section 10)."""

from typing import Any

from case import Case, call, error, success
from entrance import entrance
from stage import MAPPER_KEY, NOW, SERVICE_KEY, Answer, Stage

from uid2.protocol.encoding import encode_base64
from uid2.protocol.identity import bucket_index, previous_raw_uid, raw_uid, refresh_from
from uid2.protocol.ids import Environment, EpochMillis, IdentityScope, IdentityType
from uid2.protocol.normalize import InputKind

V2, V3, BUCKETS = "/v2/identity/map", "/v3/identity/map", "/v2/identity/buckets"
EXACTLY_ONE = error(
    "Required Parameter Missing: exactly one of [email, email_hash, phone, phone_hash] must be specified"
)
EMAIL_ONLY = error("Required Parameter Missing: exactly one of email or email_hash must be specified")
ONE_OR_MORE = error(
    "Required Parameter Missing: one or more of [email, email_hash, phone, phone_hash] must be specified"
)
ONE_OR_MORE_EMAIL = error("Required Parameter Missing: one or more of [email, email_hash] must be specified")
BAD_FORMAT = error("Incorrect request format")
BAD_LINK = error("Invalid link_id", "unauthorized")
NOTHING_MAPPED = success({"mapped": []})
NO_DATE = error("missing parameter since_timestamp")
BAD_DATE = error("invalid date, must conform to ISO 8601")
WITHOUT_PHONES = {"enable_phone_support": False}
PEOPLE = [f"user{number}@example.com" for number in range(20)]


def not_an_array(field: str) -> dict[str, str]:
    return error(f"{field} must be an array")


class Expected:
    """The raw ids of e-mail addresses, from the rules and the loaded salts."""

    def __init__(self, stage: Stage, email: str) -> None:
        flh = stage.first_level_hash(InputKind.EMAIL, email)
        table = stage.context.snapshot.salts.select(NOW).table
        index = bucket_index(flh, table.size)
        bucket = table.bucket(index)
        common = (flh, bucket, IdentityScope.UID2, IdentityType.EMAIL, Environment.TEST, False)
        now = EpochMillis(stage.clock.now_ms())
        previous = previous_raw_uid(*common, now)
        self.raw_uid = encode_base64(raw_uid(*common))
        self.previous = None if previous is None else encode_base64(previous)
        self.refresh = refresh_from(bucket, now) // 1000
        self.bucket_id = table.bucket_id(index)


def maps_v2(stage: Stage, answer: Answer) -> None:
    expected = [Expected(stage, email) for email in PEOPLE]
    assert answer.document == success(
        {
            "mapped": [
                {"identifier": email, "advertising_id": one.raw_uid, "bucket_id": one.bucket_id}
                for email, one in zip(PEOPLE, expected, strict=True)
            ]
        }
    )
    assert len({one.bucket_id for one in expected}) == 5


def maps_v3(stage: Stage, answer: Answer) -> None:
    expected = [Expected(stage, email) for email in PEOPLE]
    body = {"email": [{"u": one.raw_uid, "p": one.previous, "r": one.refresh} for one in expected]}
    assert answer.document == success(body | {"email_hash": [], "phone": [], "phone_hash": []})


def unmapped(stage: Stage, answer: Answer) -> None:
    one = Expected(stage, "a@b.c")
    mapped = {"identifier": "A@b.c", "advertising_id": one.raw_uid, "bucket_id": one.bucket_id}
    assert answer.document == success(
        {
            "mapped": [mapped, mapped],
            "unmapped": [
                {"identifier": "x", "reason": "invalid identifier"},
                {"identifier": "optout@example.com", "reason": "optout"},
                {"identifier": "gone@example.com", "reason": "optout"},
                {"identifier": "123", "reason": "invalid identifier"},
            ],
        }
    )


def gone(stage: Stage) -> None:
    stage.opt_out("gone@example.com")


def recently_updated(stage: Stage) -> None:
    """The clock stands a month after the last salt update, so that previous ids are given."""
    stage.clock.advance(1_807_000_000_000 - NOW)


def long_after(stage: Stage) -> None:
    stage.clock.advance(1_900_000_000_000 - NOW)


def has_previous(stage: Stage, answer: Answer) -> None:
    maps_v3(stage, answer)
    given = [element["p"] for element in answer.document["body"]["email"]]
    assert None in given
    assert any(given)


def no_previous(stage: Stage, answer: Answer) -> None:
    maps_v3(stage, answer)
    assert all(element["p"] is None for element in answer.document["body"]["email"])


def next_midnight(stage: Stage, answer: Answer) -> None:
    day = 86_400_000
    midnight = (stage.clock.now_ms() // day + 1) * day // 1000
    assert {element["r"] for element in answer.document["body"]["email"]} == {midnight}


def stored_refresh(stage: Stage, answer: Answer) -> None:
    table = stage.context.snapshot.salts.select(NOW).table
    stored = {table.bucket(index).refresh_from // 1000 for index in range(table.size)}
    assert {element["r"] for element in answer.document["body"]["email"]} <= stored


def buckets_since(since: int) -> Any:
    def check(stage: Stage, answer: Answer) -> None:
        table = stage.context.snapshot.salts.select(NOW).table
        wanted = [index for index in range(table.size) if table.bucket(index).last_updated >= since]
        assert [entry["bucket_id"] for entry in answer.document["body"]] == [table.bucket_id(index) for index in wanted]
        assert all(len(entry["last_updated"]) == 23 for entry in answer.document["body"])

    return check


def row_of_1806364800001(_: Stage, answer: Answer) -> None:
    assert "2027-03-30T00:00:00.001" in [entry["last_updated"] for entry in answer.document["body"]]


def asks_v2(row: str, title: str, document: Any, answer: Any, **more: Any) -> Case:
    status = 200 if answer == NOTHING_MAPPED else 400
    return Case("10.1", row, title, call(V2, document, MAPPER_KEY), status, answer, **more)


def asks_v3(row: str, title: str, document: Any, answer: Any, **more: Any) -> Case:
    return Case("10.2", row, title, call(V3, document, MAPPER_KEY), 400, answer, **more)


def asks_buckets(row: str, title: str, document: Any, answer: Any) -> Case:
    return Case("10.3", row, title, call(BUCKETS, document, MAPPER_KEY), 400, answer)


def since(title: str, text: str, millis: int) -> Case:
    return Case("10.3", "ok", title, call(BUCKETS, {"since_timestamp": text}), check=buckets_since(millis))


MIXED = ["A@b.c", "x", "optout@example.com", "A@b.c", "gone@example.com", 123]
EDGE = 1_806_364_800_001

CASES = [
    *entrance("10.1", V2),
    asks_v2("2", "text", {"email": "a@b.c"}, not_an_array("email")),
    asks_v2("2", "object", {"phone_hash": {}}, not_an_array("phone_hash")),
    asks_v2("2", "the first by field", {"phone": 1, "email_hash": 2, "email": ["a@b.c"]}, not_an_array("email_hash")),
    asks_v2("2", "before too many", {"email": ["a"], "email_hash": ["b"], "phone": 1}, not_an_array("phone")),
    asks_v2("3", "none", {}, EXACTLY_ONE),
    asks_v2("3", "null", {"email": None}, EXACTLY_ONE),
    asks_v2("3", "two", {"email": ["a@b.c"], "phone": ["x"]}, EXACTLY_ONE),
    asks_v2("3", "without phones", {"phone": ["+1234567890"]}, EMAIL_ONLY, settings=WITHOUT_PHONES),
    asks_v2("3", "only empty arrays", {"email": [], "phone": []}, NOTHING_MAPPED),
    Case("10.1", "3", "an empty one beside a filled one", call(V2, {"email": PEOPLE, "phone": []}), check=maps_v2),
    Case("10.1", "4", "service key", call(V2, {"email": PEOPLE}, SERVICE_KEY), 401, BAD_LINK),
    Case("10.1", "4", "after the format", call(V2, {"email": 1}, SERVICE_KEY), 400, not_an_array("email")),
    asks_v2("5", "no payload", None, EXACTLY_ONE),
    asks_v2("5", "null in email", {"email": ["a@b.c", None]}, error("email must not hold null (element 1)")),
    asks_v2("5", "null in phone_hash", {"phone_hash": [None]}, error("phone_hash must not hold null (element 0)")),
    Case(
        "10.1",
        "5",
        "null in phone is unmapped",
        call(V2, {"phone": [None]}),
        json=success({"mapped": [], "unmapped": [{"identifier": None, "reason": "invalid identifier"}]}),
    ),
    Case(
        "10.1", "ok", "raw ids and buckets", call(V2, {"email": PEOPLE, "policy": [], "optout_check": 7}), check=maps_v2
    ),
    Case("10.1", "ok", "mapped and unmapped in order", call(V2, {"email": MIXED}), prepare=gone, check=unmapped),
    Case(
        "10.1",
        "ok",
        "5,000 identifiers",
        call(V2, {"email": PEOPLE * 250}),
        check=lambda _, answer: _has_mapped(answer, 5000),
    ),
    *entrance("10.2", V3),
    asks_v3("2", "no payload", None, ONE_OR_MORE),
    asks_v3("2", "empty object", {}, ONE_OR_MORE),
    asks_v3("2", "without phones", {}, ONE_OR_MORE_EMAIL, settings=WITHOUT_PHONES),
    asks_v3("3", "unknown member", {"email": [], "policy": 1}, BAD_FORMAT),
    asks_v3("3", "link_id", {"email": [], "link_id": "x"}, BAD_FORMAT),
    asks_v3("3", "text", {"email": "a@b.c"}, BAD_FORMAT),
    asks_v3("3", "null element", {"phone": [None]}, BAD_FORMAT),
    asks_v3("3", "object element", {"email": [{}]}, BAD_FORMAT),
    asks_v3("3", "array element", {"email_hash": [[]]}, BAD_FORMAT),
    Case("10.2", "4", "service key", call(V3, {"email": PEOPLE}, SERVICE_KEY), 401, BAD_LINK),
    Case("10.2", "4", "after the format", call(V3, {"email": 1}, SERVICE_KEY), 400, BAD_FORMAT),
    Case("10.2", "ok", "raw ids", call(V3, {"email": PEOPLE, "phone": None}), check=maps_v3),
    Case(
        "10.2",
        "ok",
        "scalars are texts",
        call(V3, {"email": [1, True, 2.5]}),
        json=success({"email": [{"e": "invalid identifier"}] * 3, "email_hash": [], "phone": [], "phone_hash": []}),
    ),
    Case(
        "10.2",
        "ok",
        "opted out",
        call(V3, {"email": ["gone@example.com"]}),
        prepare=gone,
        json=success({"email": [{"e": "optout"}], "email_hash": [], "phone": [], "phone_hash": []}),
    ),
    Case(
        "10.2",
        "p",
        "given after a recent change",
        call(V3, {"email": PEOPLE}),
        prepare=recently_updated,
        check=has_previous,
    ),
    Case("10.2", "p", "not given later", call(V3, {"email": PEOPLE}), prepare=long_after, check=no_previous),
    Case("10.2", "r", "as stored", call(V3, {"email": PEOPLE}), check=stored_refresh),
    Case(
        "10.2",
        "r",
        "the next midnight when that is past",
        call(V3, {"email": PEOPLE}),
        prepare=long_after,
        check=next_midnight,
    ),
    *entrance("10.3", BUCKETS),
    asks_buckets("missing", "member missing", {}, NO_DATE),
    asks_buckets("missing", "null", {"since_timestamp": None}, NO_DATE),
    *(
        asks_buckets("invalid", repr(text), {"since_timestamp": text}, BAD_DATE)
        for text in (
            "",
            "2024-01-01",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00+01:00",
            "2024-02-30T00:00",
            "2024-01-01T24:00",
            "2024-01-01T00:00:60",
            "2024-01-01 00:00",
            "2024-01-01T00:00:00.1234567890",
            "0000-01-01T00:00",
            " 2024-01-01T00:00",
            1_700_000_000,
            True,
            ["2024-01-01T00:00"],
        )
    ),
    asks_buckets("none", "no payload", None, NO_DATE),
    since("everything", "1970-01-01T00:00", 0),
    since("at the millisecond", "2027-03-30T00:00:00.001", EDGE),
    since("a nanosecond later", "2027-03-30T00:00:00.001000001", EDGE + 1),
    since("seconds", "2026-08-17T00:00:00", 1_786_924_800_000),
    since("nothing", "9999-12-31T23:59:59.999999999", 1 << 60),
    Case(
        "10.3",
        "ok",
        "form of the time",
        call(BUCKETS, {"since_timestamp": "2027-01-01T00:00"}),
        check=row_of_1806364800001,
    ),
]


def _has_mapped(answer: Answer, number: int) -> None:
    assert len(answer.document["body"]["mapped"]) == number
