"""The route table of the service port (operator chapter, 1.1)."""

from collections.abc import Iterable
from typing import Final

from uid2.operator.context import OperatorContext
from uid2.operator.enveloped import Endpoint, enveloped
from uid2.operator.error_log import log_refusal
from uid2.operator.handlers.client_generate import generate_on_client_side
from uid2.operator.handlers.identity_buckets import list_buckets
from uid2.operator.handlers.identity_map import map_identities_v2, map_identities_v3
from uid2.operator.handlers.key_endpoints import bidstream_keys, latest_keys, sharing_keys
from uid2.operator.handlers.optout_status import optout_status
from uid2.operator.handlers.token_generate import generate_token
from uid2.operator.handlers.token_logout import log_out
from uid2.operator.handlers.token_refresh import refresh_token
from uid2.operator.handlers.token_validate import validate_token
from uid2.operator.request_metrics import RequestMetrics
from uid2.operator.static_files import StaticFiles
from uid2.operator.usage_log import UsageLog
from uid2.protocol.ids import Role
from uid2.service.cors import operator_rules
from uid2.service.health import HealthAnswer
from uid2.service.http import Application, Handler, Route, Router

POST: Final = ("POST",)


def operator_routes(context: OperatorContext, health: HealthAnswer) -> list[Route]:
    """Every route that the settings switch on, but the static files."""

    def keyed(path: str, endpoint: Endpoint, *roles: Role, parse: bool = True, unknown: str | None = None) -> Route:
        return Route(POST, path, enveloped(context, endpoint, roles, parse=parse, unknown=unknown))

    routes = [
        keyed(
            "/v2/token/generate",
            generate_token,
            Role.GENERATOR,
            unknown="Unknown error while generating token v2",
        ),
        Route(POST, "/v2/token/refresh", refresh_token(context)),
        keyed("/v2/token/validate", validate_token, Role.GENERATOR),
        keyed("/v2/token/logout", log_out, Role.OPTOUT),
        keyed("/v2/identity/buckets", list_buckets, Role.MAPPER),
        keyed(
            "/v2/identity/map",
            map_identities_v2,
            Role.MAPPER,
            parse=False,
            unknown="Unknown error while mapping identity v2",
        ),
        keyed(
            "/v3/identity/map",
            map_identities_v3,
            Role.MAPPER,
            parse=False,
            unknown="Unknown error while mapping identity v3",
        ),
        keyed("/v2/key/latest", latest_keys, Role.ID_READER),
        keyed("/v2/key/sharing", sharing_keys, Role.SHARER, Role.ID_READER),
        keyed("/v2/key/bidstream", bidstream_keys, Role.ID_READER),
        Route(("GET",), "/ops/healthcheck", health.handle),
    ]
    if context.settings.client_side_token_generate:
        routes.append(Route(POST, "/v2/token/client-generate", generate_on_client_side(context)))
    if context.settings.optout_status_api_enabled:
        routes.append(
            keyed(
                "/v2/optout/status",
                optout_status,
                Role.MAPPER,
                Role.SHARER,
                Role.ID_READER,
                unknown="Unknown error while getting optout status",
            )
        )
    return routes


def operator_application(context: OperatorContext, health: HealthAnswer, extra: Iterable[Route] = ()) -> Application:
    """The application of the service port, with cross-origin rules, static files and what is counted."""
    routes = [*operator_routes(context, health), *extra]
    versions: frozenset[str] = frozenset()
    if context.settings.static_dir is not None:
        files = StaticFiles(context.settings.static_dir)
        versions = files.client_versions()
        handler: Handler = files.__call__
        routes.append(Route(("GET", "HEAD"), "/static/*", handler))
    rules = operator_rules()
    known = frozenset(route.path for route in routes)
    return Application(
        Router(routes),
        before=(rules.before,),
        after=(rules.after,),
        completed=(RequestMetrics(context, versions), UsageLog(context, known), log_refusal),
    )
