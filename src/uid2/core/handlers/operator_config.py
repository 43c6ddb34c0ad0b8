"""GET /operator/config: the runtime configuration of operators, read on every request (core chapter, 2.5)."""

import asyncio

from uid2.core.context import CoreContext
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.json_text import parse_object
from uid2.protocol.operators import OperatorKey
from uid2.protocol.store_json import write_json
from uid2.service.messages import JSON, TEXT, Request, Response
from uid2.stores.loading import LARGEST_METADATA


async def operator_config(context: CoreContext, operator: OperatorKey, _: Request) -> Response:  # noqa: ARG001
    path = context.settings.operator_config_path
    try:
        data = await asyncio.to_thread(context.source.read, path, LARGEST_METADATA)
    except StoreUnavailableError as error:
        return Response(500, f"Failed to retrieve configuration: {error.message}".encode(), TEXT)
    try:
        return Response(200, write_json(parse_object(data)), JSON)
    except ValueError as error:
        return Response(500, f"Failed to parse configuration: {error} ({path})".encode(), TEXT)
