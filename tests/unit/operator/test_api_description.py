"""The served description names exactly the routes of the service port."""

import asyncio
import json

from uid2.operator.api_description import PATH, description_route
from uid2.service.http import Application, Router
from uid2.service.messages import Request


def test_the_description_is_served_and_names_the_endpoints() -> None:
    answer = asyncio.run(Application(Router([description_route()])).respond(Request("GET", PATH)))
    assert (answer.status, answer.content_type) == (200, "application/json")
    document = json.loads(answer.body)
    assert document["openapi"].startswith("3.1")
    assert {"/v2/token/generate", "/v2/token/refresh", "/v3/identity/map", "/v2/key/sharing"} <= set(document["paths"])
