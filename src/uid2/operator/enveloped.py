"""Wraps an endpoint in authentication, role check and the v2 envelope (operator chapter, sections 3 and 4).

body ─▶ key and role (401) ─▶ envelope (400) ─▶ JSON object (400) ─▶ endpoint ─▶ sealed 200 or plain problem
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from uid2.operator.auth import admits, find_client, with_trace
from uid2.operator.context import OperatorContext
from uid2.operator.problems import answer_to, unauthorized
from uid2.protocol.clients import Client
from uid2.protocol.encoding import encode_base64_bytes
from uid2.protocol.envelope import OpenedRequest, open_request, seal_response
from uid2.protocol.errors import EnvelopeError, Uid2Error
from uid2.protocol.ids import EpochMillis, Role
from uid2.service.messages import JSON, TEXT, Request, Response
from uid2.stores.snapshot import OperatorSnapshot

OCTETS: Final = "application/octet-stream"
IV_LENGTH: Final = 12


@dataclass(slots=True)
class EnvelopedCall:
    """An authenticated call with its payload opened.

    `payload` is the JSON as it came, unparsed; `document` its object, None when there is no payload or the endpoint
    reads `payload` itself. `snapshot` and `now` are those of the whole request.
    """

    context: OperatorContext
    request: Request
    client: Client
    snapshot: OperatorSnapshot
    now: EpochMillis
    payload: bytes = field(repr=False)
    document: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an endpoint answers: the JSON of a sealed 200, or a response that goes out as it is."""

    payload: bytes = field(default=b"", repr=False)
    response: Response | None = None


Endpoint = Callable[[EnvelopedCall], Awaitable[Outcome]]


def success(body: object) -> Outcome:
    """200 with a body that is yet to be written as JSON."""
    return Outcome(msgspec.json.encode({"body": body, "status": "success"}))


def success_of_json(body: bytes) -> Outcome:
    """200 with a body that is JSON already."""
    return Outcome(b'{"body":' + body + b',"status":"success"}')


def special(status: str) -> Outcome:
    """200 with a status and nothing else."""
    return Outcome(msgspec.json.encode({"status": status}))


def refused(response: Response) -> Outcome:
    """Anything but 200, plain."""
    return Outcome(response=response)


def enveloped(
    context: OperatorContext,
    endpoint: Endpoint,
    roles: Collection[Role],
    *,
    parse: bool = True,
    unknown: str | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a keyed route. `parse` false leaves the payload to the endpoint; `unknown` words other errors."""
    accepted = frozenset(roles)

    async def handle(request: Request) -> Response:
        return with_trace(request, await _answer(context, endpoint, accepted, parse, unknown, request))

    return handle


async def _answer(
    context: OperatorContext,
    endpoint: Endpoint,
    roles: frozenset[Role],
    parse: bool,
    unknown: str | None,
    request: Request,
) -> Response:
    snapshot, now = context.snapshot, context.clock.now_ms()
    client = find_client(request, snapshot.clients)
    if client is None or not admits(client, roles):
        return unauthorized()
    size = len(request.body or b"")
    try:
        opened, document = await context.lanes.finish(size, lambda: _open(context, request, client, now, parse))
    except EnvelopeError as error:
        return answer_to(error)
    call = EnvelopedCall(context, request, client, snapshot, now, opened.payload, document)
    try:
        outcome = await endpoint(call)
    except Uid2Error as error:
        return answer_to(error, unknown)
    if outcome.response is not None:
        return outcome.response
    payload = outcome.payload
    return await context.lanes.finish(len(payload), lambda: _sealed(context, client, opened, payload))


def _open(
    context: OperatorContext, request: Request, client: Client, now: EpochMillis, parse: bool
) -> tuple[OpenedRequest, dict[str, Any] | None]:
    if not context.settings.enable_v2_encryption:
        opened = OpenedRequest(now, b"", request.body, binary=False)
    else:
        body = request.body if request.is_octet_stream else text_bytes(request)
        opened = open_request(body, request.is_octet_stream, client.gcm, now, context.settings.identity_scope)
    return opened, opened.document() if parse else None


def _sealed(context: OperatorContext, client: Client, opened: OpenedRequest, payload: bytes) -> Response:
    if not context.settings.enable_v2_encryption:
        return Response(200, payload, JSON)
    iv = context.entropy.bytes(IV_LENGTH)
    sealed = seal_response(payload, opened.nonce, context.clock.now_ms(), client.gcm, iv)
    if opened.binary:
        return Response(200, sealed, OCTETS)
    return Response(200, encode_base64_bytes(sealed), TEXT)


def text_bytes(request: Request) -> bytes:
    """The body as UTF-8, whatever charset its content type names."""
    content_type = request.header("content-type")
    if content_type is None or "charset" not in content_type.lower():
        return request.body
    return request.text().encode("utf-8", "replace")
