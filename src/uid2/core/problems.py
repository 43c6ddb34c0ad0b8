"""Core's answers to what goes wrong (core chapter, 2.1 and 4.3)."""

from enum import StrEnum
from typing import Final

from uid2.service.messages import Response, json_response

ATTESTATION_FAILURE: Final = "attestation failure"
INTERNAL_PROCESSING: Final = "There was an internal processing error"
RETRY_AFTER_SECONDS: Final = 5


class Refusal(StrEnum):
    """`reason` of a 401."""

    UNRECOGNIZED = "unrecognized_key"
    DISABLED = "key_disabled"
    INSUFFICIENT = "insufficient_role"


_REFUSALS: Final = {
    Refusal.UNRECOGNIZED: "Operator key not recognized.",
    Refusal.DISABLED: "Operator key is recognized but has been disabled.",
    Refusal.INSUFFICIENT: "Operator key is recognized but is not authorized for this operation.",
}


def unauthorized(refusal: Refusal) -> Response:
    return json_response(401, {"status": "unauthorized", "reason": refusal.value, "message": _REFUSALS[refusal]})


def problem(status: int, text: str, message: str | None = None, reason_code: str | None = None) -> Response:
    """`{"status":…,"message":…,"reason_code":…}`; members without a value are left out."""
    members = {"status": text, "message": message, "reason_code": reason_code}
    return json_response(status, {name: value for name, value in members.items() if value is not None})


def not_loaded(what: str) -> Response:
    """Core has not read its own data yet: the caller shall come again rather than take itself for refused."""
    answer = problem(503, "error", f"{what} are not loaded yet, try again", "not_ready")
    return answer.with_headers(("retry-after", str(RETRY_AFTER_SECONDS)))
