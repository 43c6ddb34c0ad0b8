"""The listener for operations: metrics, health, status, drain. It opens first and never serves clients."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from uid2.service import metrics
from uid2.service.health import Health
from uid2.service.http import Application, Handler, Route, Router
from uid2.service.messages import Request, Response, generic_failure, json_response

FORWARDING: Final = (
    "forwarded",
    "via",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-ssl",
)
OPS_BODY_LIMIT: Final = 64 << 10

_log = logging.getLogger(__name__)


def is_local(request: Request) -> bool:
    """Whether the caller sits on this machine: judged by the socket's peer, and no proxy has passed it on."""
    if any(name in request.headers for name in FORWARDING):
        return False
    try:
        address = ipaddress.ip_address(request.peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class OpsApplication(Application):
    """The callbacks: `render` gives the metrics, `status` the members of /ops/status, `drain` begins the stop."""

    def __init__(
        self,
        health: Health,
        render: Callable[[], Awaitable[bytes]],
        status: Callable[[], Awaitable[Mapping[str, Any]]],
        ready: Callable[[], bool],
        drain: Callable[[], None],
        extra: tuple[Route, ...] = (),
    ) -> None:
        async def show_metrics(_: Request) -> Response:
            return Response(200, await render(), metrics.CONTENT_TYPE)

        async def live(_: Request) -> Response:
            return Response(200, b"OK")

        async def show_ready(_: Request) -> Response:
            return Response(200, b"OK") if ready() else Response(503, b"not ready")

        async def show_status(_: Request) -> Response:
            return json_response(200, await status())

        async def begin_drain(request: Request) -> Response:
            if not is_local(request):
                return generic_failure(403)
            _log.info("drain asked for over the ops listener")
            drain()
            return Response(202, b"draining")

        reads: dict[str, Handler] = {
            "/metrics": show_metrics,
            "/ops/healthcheck": health.handle,
            "/ops/live": live,
            "/ops/ready": show_ready,
            "/ops/status": show_status,
        }
        routes = [Route(("GET",), path, handler, OPS_BODY_LIMIT) for path, handler in reads.items()]
        routes.append(Route(("POST",), "/ops/drain", begin_drain, OPS_BODY_LIMIT))
        super().__init__(Router([*routes, *extra]))
