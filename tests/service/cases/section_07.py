"""Test identities (section 7)."""

from typing import Any

from case import Case, call
from stage import Answer, Asked, Stage

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64

ROWS = (
    ("validate", "validate@example.com", "+12345678901", "success", "success"),
    ("optout", "optout@example.com", "+00000000000", "optout", None),
    ("refresh-optout", "refresh-optout@example.com", "+00000000002", "success", "optout"),
)


def refreshes_to(status: str | None) -> Any:
    """The status of the refresh that follows a generate."""

    def check(stage: Stage, answer: Answer) -> None:
        if status is None:
            assert answer.document == {"status": "optout"}
            return
        body = answer.document["body"]
        assert refreshed(stage, body)["status"] == status

    return check


def refreshed(stage: Stage, body: dict[str, str]) -> Any:
    key = GcmKey(decode_base64(body["refresh_response_key"]))
    asked = Asked("POST", "/v2/token/refresh", {}, body["refresh_token"].encode(), key, framed=False)
    return stage.send(asked).document


def mapped(status: str) -> Any:
    def check(_: Stage, answer: Answer) -> None:
        (element,) = answer.document["body"]["email"]
        (phone,) = answer.document["body"]["phone"]
        for each in (element, phone):
            assert ("u" in each) == (status == "success")
            assert each.get("e") == (None if status == "success" else "optout")

    return check


def everyone_opted_out(stage: Stage) -> None:
    for email in ("validate@example.com", "refresh-optout@example.com"):
        stage.opt_out(email)


CASES = [
    case
    for row, email, phone, status, on_refresh in ROWS
    for case in (
        Case("7", row, "e-mail", call("/v2/token/generate", {"email": email}), check=refreshes_to(on_refresh)),
        Case("7", row, "phone", call("/v2/token/generate", {"phone": phone}), check=refreshes_to(on_refresh)),
        Case(
            "7",
            row,
            "generate, whatever the data say",
            call("/v2/token/generate", {"email": email}),
            prepare=everyone_opted_out,
            check=refreshes_to(on_refresh),
        ),
        Case(
            "7",
            row,
            "map, whatever the data say",
            call("/v3/identity/map", {"email": [email], "phone": [phone]}),
            prepare=everyone_opted_out,
            check=mapped(status),
        ),
    )
]
