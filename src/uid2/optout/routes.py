"""The route tables of the service port and of the control port (opt-out chapter, section 2)."""

from typing import Final

from uid2.optout.auth import internal, keyed
from uid2.optout.context import OptOutContext
from uid2.optout.handlers.deltaproduce import production_status, start_production
from uid2.optout.handlers.refresh import refresh
from uid2.optout.handlers.replicate import replicate
from uid2.optout.handlers.tail import tail
from uid2.optout.request_metrics import RequestMetrics
from uid2.protocol.ids import Role
from uid2.service.cors import core_rules
from uid2.service.health import Health
from uid2.service.http import Application, Route, Router
from uid2.service.messages import TEXT, Request, Response, generic_failure
from uid2.service.signed_urls import FileLinks

BODY_LIMIT: Final = 10_485_760
FORM_LIMIT: Final = 1 << 20
EVERY_METHOD: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
WITH_A_BODY: Final = ("POST", "PUT", "PATCH", "DELETE")
LOCAL_HOST: Final = "127.0.0.1"


def optout_application(context: OptOutContext, health: Health) -> Application:
    """What listens on 8081."""
    routes = [
        Route(("GET",), "/ops/healthcheck", health.handle, BODY_LIMIT),
        Route(EVERY_METHOD, "/optout/replicate", keyed(context, replicate, Role.OPTOUT, attested=False), FORM_LIMIT),
        Route(EVERY_METHOD, "/optout/refresh", keyed(context, refresh, Role.OPERATOR, attested=True), BODY_LIMIT),
        Route(("GET",), "/optout/tail", keyed(context, tail, Role.OPERATOR, attested=True), BODY_LIMIT),
    ]
    if context.settings.optout_partner_endpoint_mock:
        routes.append(Route(EVERY_METHOD, "/optout/partner_mock", partner_mock, BODY_LIMIT))
    if isinstance(context.urls, FileLinks):
        routes.append(context.urls.route())
    rules = core_rules()
    return Application(
        Router(routes),
        before=(rules.before, refuse_multipart),
        after=(rules.after,),
        completed=(RequestMetrics(context.metrics),),
    )


def control_application(context: OptOutContext) -> Application:
    """What listens on 8082."""
    return Application(
        Router(
            [
                Route(("POST",), "/optout/deltaproduce", internal(context, start_production)),
                Route(("GET",), "/optout/deltaproduce/status", internal(context, production_status)),
            ]
        ),
        completed=(RequestMetrics(context.metrics),),
    )


def refuse_multipart(request: Request) -> Response | None:
    """A hook before the handlers: 400 for a multipart body on a method that has none."""
    kind = (request.header("content-type") or "").lower()
    if kind.startswith("multipart/") and request.method not in WITH_A_BODY:
        return Response(400, b"a multipart body needs the method POST, PUT, PATCH or DELETE", TEXT)
    return None


async def partner_mock(request: Request) -> Response:
    """A partner that takes everything, for callers of this machine."""
    return Response(200) if request.host.startswith(LOCAL_HOST) else generic_failure(401)
