"""The one table from errors to answers (operator chapter, 2.5, 3.3 and 5). Answers are plain JSON, never sealed.

ClientInputError, EnvelopeError     400  client_error        its own text
BusyError                           429  too_many_requests   its own text, with Retry-After
NoActiveKeyError                    500  unknown             No active encryption key available
DependencyError, DurabilityError    500                      the generic text
any other                           500  unknown             the endpoint's "Unknown error …", else generic
"""

from typing import Final

from uid2.protocol.errors import (
    BusyError,
    ClientInputError,
    DependencyError,
    DurabilityError,
    NoActiveKeyError,
    Uid2Error,
)
from uid2.service.messages import Response, generic_failure, json_response

RETRY_AFTER_SECONDS: Final = 1
NO_ACTIVE_KEY: Final = "No active encryption key available"
INVALID_IDENTIFIER: Final = "Invalid Identifier"


def problem(status: int, code: str, message: str | None = None) -> Response:
    """`{"message":…,"status":…}`, without `message` when there is none."""
    document = {"status": code} if message is None else {"message": message, "status": code}
    return json_response(status, document)


def client_error(message: str) -> Response:
    return problem(400, "client_error", message)


def unauthorized(message: str | None = None) -> Response:
    return problem(401, "unauthorized", message)


def unknown_error(message: str) -> Response:
    return problem(500, "unknown", message)


def answer_to(error: Uid2Error, unknown: str | None = None) -> Response:
    """The answer to an error; `unknown` is what the endpoint says about errors of no other row."""
    match error:
        case ClientInputError():
            return client_error(error.message)
        case BusyError():
            busy = problem(429, "too_many_requests", error.message)
            return busy.with_headers(("retry-after", str(RETRY_AFTER_SECONDS)))
        case NoActiveKeyError():
            return unknown_error(NO_ACTIVE_KEY)
        case DependencyError() | DurabilityError():
            return generic_failure(500)
    return generic_failure(500) if unknown is None else unknown_error(unknown)
