"""GET /ops/openapi.json on the ops listener: the description of the API that this operator serves."""

from importlib.resources import files
from typing import Final

from uid2.service.http import Route
from uid2.service.messages import JSON, Request, Response

PATH: Final = "/ops/openapi.json"


def description() -> bytes:
    """The OpenAPI 3.1 document, UTF-8 JSON."""
    return files("uid2.operator").joinpath("openapi.json").read_bytes()


def description_route() -> Route:
    """The route that serves it, read once."""
    document = description()

    async def show(_: Request) -> Response:
        return Response(200, document, JSON)

    return Route(("GET",), PATH, show)
