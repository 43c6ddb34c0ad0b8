"""What is counted of every request (operator chapter, 14.3 and 14.4)."""

from collections.abc import Collection
from typing import Final

from uid2.operator.context import OperatorContext
from uid2.operator.token_metrics import site_label, site_name
from uid2.service.messages import Request, Response

VERSION_HEADER: Final = "X-UID2-Client-Version"
APP_HEADER: Final = "X-UID2-AppVersion"
TOO_MANY_REQUESTS: Final = 429
COUNTED_BY_VERSION: Final = ("/v2/token/refresh", "/v2/identity/map")


def client_version(request: Request) -> str | None:
    """The SDK's name and version, from the header or the query."""
    return request.header(VERSION_HEADER) or request.query.get("client")


class RequestMetrics:
    """A completion hook. `served_versions` are the base names of the served SDK files."""

    def __init__(self, context: OperatorContext, served_versions: Collection[str] = ()) -> None:
        self._context = context
        self._served = frozenset(served_versions)

    def __call__(self, request: Request, response: Response) -> None:
        metrics = self._context.metrics
        client = request.attributes.get("client")
        contact = "unknown" if client is None else client.contact or "unknown"
        site_id = None if client is None else client.site_id
        path = request.route_path or "unknown"
        metrics.count(
            "uid2_http_requests_total",
            api_contact=contact,
            site_id=site_label(site_id),
            site_name=site_name(self._context.snapshot, site_id),
            host=_host(request.host),
            status=response.status,
            method=request.method,
            path=path,
        )
        if response.status == TOO_MANY_REQUESTS:
            metrics.count("uid2_operator_bulk_refused_total")
        version = client_version(request)
        if version is not None:
            if version in self._served:
                metrics.count(
                    "uid2_client_sdk_versions_total",
                    site_id="unknown",
                    api_contact="unknown",
                    client_version=version,
                    path=path,
                )
            if path in COUNTED_BY_VERSION:
                metrics.count(
                    "uid2_client_sdk_versions_total",
                    site_id=site_label(site_id),
                    api_contact=contact,
                    client_version=version,
                    path=path,
                )
        for part in (request.header(APP_HEADER) or "").split(";")[:8]:
            name, found, number = part.partition("=")
            if found:
                metrics.count(
                    "uid2_client_versions_total", api_contact=contact, client_name=name, client_version=number
                )


def _host(host: str) -> str:
    if not host:
        return "NotSpecified"
    return "10.x.x.x:xx" if host.startswith("10.") else host
