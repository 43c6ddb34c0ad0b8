"""The opt-out service's answers to what goes wrong: plain text, one sentence."""

from typing import Final

from uid2.service.messages import TEXT, Response, generic_failure

RETRY_AFTER_SECONDS: Final = 5


def unauthorized() -> Response:
    return generic_failure(401)


def refused(status: int, why: str) -> Response:
    """An answer that says what is wrong with the request or why it was not served."""
    return Response(status, why.encode("utf-8", "replace"), TEXT)


def not_ready(why: str) -> Response:
    """The service cannot tell yet: the caller shall come again rather than take itself for refused."""
    return refused(503, f"{why}, try again").with_headers(("retry-after", str(RETRY_AFTER_SECONDS)))
