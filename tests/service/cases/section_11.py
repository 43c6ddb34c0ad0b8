"""Opt-out status (section 11)."""

from case import Case, call, error, success
from entrance import entrance
from stage import SHARER_KEY, Stage

from uid2.protocol.encoding import encode_base64

PATH = "/v2/optout/status"
FIRST, SECOND, LONG = bytes(range(32)), bytes(range(1, 33)), b"\x10" + bytes(range(32))
TEXTS = [encode_base64(raw_uid) for raw_uid in (FIRST, SECOND, LONG)]
SINCE = 1_700_000_000


def three_gone(stage: Stage) -> None:
    stage.opt_out("a@example.com", FIRST, SINCE)
    stage.opt_out("b@example.com", SECOND, SINCE + 5)
    stage.opt_out("c@example.com", SECOND, SINCE + 1)
    stage.opt_out("d@example.com", LONG, SINCE + 9)


def since(text: str, seconds: int) -> dict[str, object]:
    return {"advertising_id": text, "opted_out_since": (SINCE + seconds) * 1000}


UNKNOWN = [encode_base64(bytes(32)), "", "?", TEXTS[0].rstrip("="), TEXTS[0] + "\n", 7, None, [], {}]
TOO_LARGE = error("Request payload is too large")
MISSING = error("Required Parameter Missing: advertising_ids")
NONE = success({"opted_out": []})
FEW = {"optout_status_max_request_size": 2}

CASES = [
    *entrance("11", PATH),
    Case("11", "2", "no payload", call(PATH), 400, error("Invalid request body")),
    Case("11", "3", "missing", call(PATH, {}), 400, MISSING),
    Case("11", "3", "null", call(PATH, {"advertising_ids": None}), 400, MISSING),
    Case("11", "4", "5,001 ids", call(PATH, {"advertising_ids": ["x"] * 5001}), 400, TOO_LARGE),
    Case("11", "4", "5,000 ids pass", call(PATH, {"advertising_ids": ["x"] * 5000}), json=NONE),
    Case("11", "4", "as configured", call(PATH, {"advertising_ids": ["x"] * 3}), 400, TOO_LARGE, settings=FEW),
    Case("11", "5", "text", call(PATH, {"advertising_ids": "x"}), 400, error("advertising_ids must be an array")),
    Case("11", "5", "object", call(PATH, {"advertising_ids": {}}), 400, error("advertising_ids must be an array")),
    Case("11", "ok", "empty", call(PATH, {"advertising_ids": []}), json=NONE),
    Case(
        "11",
        "ok",
        "in order, repeated, the earliest time",
        call(PATH, {"advertising_ids": [TEXTS[1], TEXTS[0], "x", TEXTS[1], TEXTS[2]]}, SHARER_KEY),
        prepare=three_gone,
        json=success({"opted_out": [since(TEXTS[1], 1), since(TEXTS[0], 0), since(TEXTS[1], 1), since(TEXTS[2], 9)]}),
    ),
    Case(
        "11", "ok", "malformed ids are unknown", call(PATH, {"advertising_ids": UNKNOWN}), json=NONE, prepare=three_gone
    ),
]
