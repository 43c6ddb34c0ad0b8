"""The two ways a call to an operator fails."""

import json
from typing import Final, Self

import httpx

from uid2.protocol.errors import DependencyError, Uid2Error

LONGEST_TEXT: Final = 500

_NEXT_STEPS: Final = {
    401: "check the client key, and that it has the role this call needs",
    413: "send less at once: a request may have 1 MiB",
    429: "the operator is busy; try again later, or with smaller batches",
}
_CLOCK_STEP: Final = "set this machine's clock: the operator accepts two minutes of difference"
_SECRET_STEP: Final = "check that the client secret belongs to the client key"  # noqa: S105 - advice, not a secret


class OperatorUnreachableError(DependencyError):
    """The operator a client calls does not answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"the operator at {url} does not answer ({reason})",
            next_step="start one with `uid2 up`, or give the right address with --url",
        )


class OperatorRefusalError(Uid2Error):
    """The operator answered with something other than success; `status` is its own word for it."""

    code = "operator_refusal"

    def __init__(self, http_status: int, status: str, text: str) -> None:
        next_step = _NEXT_STEPS.get(http_status, "")
        if "timestamp" in text:
            next_step = _CLOCK_STEP
        elif "ClientSecret" in text:
            next_step = _SECRET_STEP
        super().__init__(f"the operator answered {http_status} {status}: {text}".rstrip(": "), next_step=next_step)
        self.http_status = http_status
        self.status = status

    @classmethod
    def of(cls, answer: httpx.Response) -> Self:
        """From an answer that is not 200: JSON with `status` and `message`, or a short text."""
        try:
            document = json.loads(answer.content)
        except ValueError:
            return cls(answer.status_code, answer.reason_phrase, answer.text[:LONGEST_TEXT])
        if not isinstance(document, dict):
            return cls(answer.status_code, answer.reason_phrase, "")
        message = str(document.get("message") or "")
        return cls(answer.status_code, str(document.get("status")), message[:LONGEST_TEXT])
