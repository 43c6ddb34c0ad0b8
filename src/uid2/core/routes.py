"""The route table of Core's service port (core chapter, section 2)."""

from email.utils import formatdate
from typing import Final

from uid2.core.audit import AuditLog, RequestMetrics
from uid2.core.auth import Endpoint, keyed
from uid2.core.context import CoreContext
from uid2.core.handlers.attest import attest
from uid2.core.handlers.challenge import challenge
from uid2.core.handlers.cloud_keys import retrieve_cloud_keys
from uid2.core.handlers.get_token import get_token
from uid2.core.handlers.operator_config import operator_config
from uid2.core.handlers.refresh import ENDPOINTS, refresh
from uid2.protocol.ids import Role
from uid2.service.cors import core_rules
from uid2.service.health import Health
from uid2.service.http import Application, Route, Router
from uid2.service.messages import TEXT, Request, Response
from uid2.service.signed_urls import FileLinks

BODY_LIMIT: Final = 10 << 20
GET: Final = ("GET",)
POST: Final = ("POST",)
EVERY_METHOD: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
WITH_A_BODY: Final = ("POST", "PUT", "PATCH", "DELETE")
# The stray quotation mark is the reference's.
NO_MULTIPART: Final = b'Content-Type "multipart/*" Not Allowed"'


def core_routes(context: CoreContext, health: Health) -> list[Route]:
    def route(methods: tuple[str, ...], path: str, endpoint: Endpoint, *roles: Role, gate: bool = True) -> Route:
        return Route(methods, path, keyed(context, endpoint, roles, gate=gate), BODY_LIMIT)

    attesting = (Role.OPERATOR, Role.OPTOUT_SERVICE)
    routes = [
        Route(GET, "/ops/healthcheck", health.handle, BODY_LIMIT),
        route(POST, "/attest", attest, *attesting, gate=False),
        route(POST, "/attest/challenge", challenge, *attesting, gate=False),
        *(route(GET, endpoint.path, refresh(endpoint), endpoint.role) for endpoint in ENDPOINTS),
        route(GET, "/cloud_encryption_keys/retrieve", retrieve_cloud_keys, Role.OPERATOR),
        route(GET, "/operator/config", operator_config, Role.OPERATOR),
    ]
    if context.settings.enable_test_endpoints:
        routes.append(route(EVERY_METHOD, "/attest/get_token", get_token, Role.OPERATOR, gate=False))
    if isinstance(context.urls, FileLinks):
        routes.append(context.urls.route())
    return routes


def refuse_multipart(request: Request) -> Response | None:
    """A hook before the handlers: 400 for a multipart body on a method that has none."""
    kind = (request.header("content-type") or "").lower()
    if kind.startswith("multipart/") and request.method not in WITH_A_BODY:
        return Response(400, NO_MULTIPART, TEXT)
    return None


def core_application(context: CoreContext, health: Health) -> Application:
    rules = core_rules()

    def dated(_: Request, response: Response) -> Response:
        # Operators measure by it how far their clock is off.
        return response.with_headers(("date", formatdate(context.now(), usegmt=True)))

    return Application(
        Router(core_routes(context, health)),
        before=(rules.before, refuse_multipart),
        after=(rules.after, dated),
        completed=(RequestMetrics(context), AuditLog()),
    )
