"""`/optout/refresh`: the files operators shall have, with signed addresses (opt-out chapter, 2.4)."""

import asyncio
import logging

from uid2.optout.context import OptOutContext
from uid2.optout.listing import refresh_document
from uid2.optout.problems import refused
from uid2.protocol.errors import Uid2Error
from uid2.service.messages import Request, Response, generic_failure, json_response

_log = logging.getLogger(__name__)


async def refresh(context: OptOutContext, request: Request) -> Response:
    files = context.files.files
    if files is None:
        return Response(404)
    base = context.base_url(request)
    interval = context.settings.optout_delta_rotate_interval
    try:
        document = await asyncio.to_thread(
            refresh_document, files, interval, context.now(), lambda path: context.urls.sign(path, base)
        )
    except Uid2Error as error:
        _log.error("s3_error: %s", error.message, extra={"next_step": error.next_step})
        return refused(500, error.message) if context.settings.service_verbose else generic_failure(500)
    return json_response(200, document)
