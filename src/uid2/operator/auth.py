"""Who calls and whether they may (operator chapter, section 3)."""

from collections.abc import Collection

from uid2.protocol.api_keys import ApiKeyIndex
from uid2.protocol.clients import Client
from uid2.protocol.ids import Role
from uid2.service.bearer import TRACE_HEADER, bearer_key
from uid2.service.messages import Request, Response

__all__ = ["TRACE_HEADER", "admits", "bearer_key", "find_client", "with_trace"]


def find_client(request: Request, clients: ApiKeyIndex[Client]) -> Client | None:
    """The record of the presented key, disabled or not, and remembered in the request for logs and metrics."""
    key = bearer_key(request)
    client = None if key is None else clients.find(key)
    if client is not None:
        request.attributes["client"] = client
    return client


def admits(client: Client, roles: Collection[Role]) -> bool:
    """Whether an enabled client has one of the roles."""
    return not client.disabled and not client.roles.isdisjoint(roles)


def with_trace(request: Request, response: Response) -> Response:
    """The response with the caller's trace id, where the call had one."""
    trace = request.header(TRACE_HEADER)
    return response if trace is None else response.with_headers((TRACE_HEADER, trace))
