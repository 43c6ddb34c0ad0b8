"""The control port: start a production job, see how it went (opt-out chapter, 2.5)."""

from uid2.optout.context import OptOutContext
from uid2.service.messages import Request, Response, json_response


async def start_production(context: OptOutContext, _: Request) -> Response:
    status, document = await context.producer.start()
    return json_response(status, document)


async def production_status(context: OptOutContext, _: Request) -> Response:
    return json_response(200, context.producer.status())
