"""`/optout/replicate`: take one opt-out and make it last (opt-out chapter, 2.3)."""

import logging
from typing import Any, Final
from urllib.parse import parse_qsl

from uid2.optout.context import OptOutContext
from uid2.optout.messages import OptOutMessage, UnusableMessageError, advertising_id_of, identity_hash_of
from uid2.optout.problems import refused
from uid2.protocol.errors import DependencyError, DurabilityError, Uid2Error
from uid2.protocol.json_text import parse_object
from uid2.service.messages import TEXT, Request, Response

INSTANCE_HEADER: Final = "UID-Instance-Id"
TRACE_HEADER: Final = "UID-Trace-Id"
# Operators that mirror the traffic of others; their opt-outs come in through those.
SHADOWS: Final = ("reference-operator", "candidate-operator")
METHODS: Final = ("GET", "POST")
LONGEST_TEXT: Final = 4096
MOST_FIELDS: Final = 256
_FORM: Final = "application/x-www-form-urlencoded"
_TOO_MANY: Final = "Bad Request: Too many form fields"

_log = logging.getLogger(__name__)


async def replicate(context: OptOutContext, request: Request) -> Response:
    instance = request.header(INSTANCE_HEADER) or ""
    if any(shadow in instance for shadow in SHADOWS):
        return _accepted(context)
    try:
        message = message_of(request)
    except UnusableMessageError as error:
        return refused(400, str(error))
    if await _full(context):
        return refused(500, "the queue is full, send the opt-out again later")
    try:
        await context.queue.send(message)
    except (DurabilityError, DependencyError) as error:
        context.metrics.count("uid2_optout_requests_total", outcome="not_durable")
        _log.error("sqs_error: %s", error.message, extra={"next_step": error.next_step})
        return refused(500, "the opt-out could not be made durable and is not kept, send it again")
    context.metrics.count("uid2_optout_requests_total", outcome="accepted")
    return _accepted(context)


async def _full(context: OptOutContext) -> bool:
    """Whether the queue holds as many as it may; a length that is not known is no reason to refuse."""
    limit = context.settings.optout_sqs_max_queue_size
    if limit <= 0:
        return False
    try:
        size = await context.queue.size()
    except Uid2Error as error:
        _log.error("sqs_error: %s", error.message, extra={"next_step": error.next_step})
        return False
    if size >= limit:
        _log.error("sqs_queue_full: the queue holds %d opt-outs, the limit is %d", size, limit)
    return size >= limit


def message_of(request: Request) -> OptOutMessage:
    """The opt-out of a request; UnusableMessageError says what is wrong with it."""
    fields = _fields(request)
    members = {} if _is_form(request) else _members(request)
    if request.method not in METHODS:
        raise UnusableMessageError("use GET or POST")
    return OptOutMessage(
        identity_hash_of(_single(fields, "identity_hash")),
        advertising_id_of(_single(fields, "advertising_id")),
        trace_id=_text("UID-Trace-Id", request.header(TRACE_HEADER) or None),
        client_ip=_text("client_ip", members.get("client_ip")),
        email=_text("email", members.get("email")),
        phone=_text("phone", members.get("phone")),
    )


def _fields(request: Request) -> list[tuple[str, str]]:
    texts = [request.query_string]
    if _is_form(request):
        texts.append(request.body.decode("utf-8", "replace"))
    try:
        return [
            field for text in texts for field in parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        ]
    except ValueError:
        raise UnusableMessageError(_TOO_MANY) from None


def _single(fields: list[tuple[str, str]], name: str) -> str:
    values = [value for key, value in fields if key == name]
    if len(values) != 1:
        raise UnusableMessageError(f"{name} must be given exactly once, not {len(values)} times")
    return values[0]


def _members(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    try:
        return parse_object(request.body)
    except ValueError as error:
        raise UnusableMessageError(f"the body must be a JSON object: {error}") from None


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise UnusableMessageError(f"{name} must be a text of at most {LONGEST_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableMessageError(f"{name} is not valid Unicode text") from None
    return value


def _is_form(request: Request) -> bool:
    return (request.header("content-type") or "").partition(";")[0].strip().lower() == _FORM


def _accepted(context: OptOutContext) -> Response:
    return Response(200, str(context.now()).encode(), TEXT)
