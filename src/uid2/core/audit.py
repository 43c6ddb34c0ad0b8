"""One audit line per authenticated request, and what is counted of every request (core chapter, 2.7 and 3.3)."""

import logging
from typing import Any, Final

from uid2.core.context import CoreContext
from uid2.core.issuing import VERSION_HEADER
from uid2.protocol.attest_messages import AttestRequest
from uid2.protocol.jwt_claims import AttestationClaims
from uid2.protocol.operators import OperatorKey
from uid2.protocol.store_json import role_names
from uid2.service.messages import Request, Response

LONGEST_TEXT: Final = 128
_COMPONENTS: Final = ("uid2-attestation-api", "uid2-shared")

_log = logging.getLogger(__name__)


class AuditLog:
    """A completion hook. The line never holds a key, a token or the subject of a JWT."""

    def __call__(self, request: Request, response: Response) -> None:
        operator: OperatorKey | None = request.attributes.get("operator")
        if operator is None:
            return
        line: dict[str, Any] = {
            "source": "core",
            "method": request.method,
            "endpoint": request.path[:LONGEST_TEXT],
            "status": response.status,
            "key_id": operator.key_id,
            "key_name": operator.name,
            "participant_id": operator.site_id,
            "trace_id": _bounded(request.header("UID-Trace-Id") or request.header("X-Amzn-Trace-Id")),
            "instance_id": _bounded(request.header("UID-Instance-Id")),
        }
        if response.status >= 400:
            line["client_address"] = _bounded(request.client)
        claims: AttestationClaims | None = request.attributes.get("claims")
        if claims is not None:
            line |= {"roles": role_names(claims.roles), "token_id": _bounded(claims.jti)}
        attest: AttestRequest | None = request.attributes.get("attest")
        if attest is not None:
            line |= {
                "application_name": _bounded(attest.application_name),
                "application_version": _bounded(attest.application_version),
                "operator_type": _bounded(attest.operator_type),
                "report_data_version": attest.report_data_version,
                **{f"components.{name}": _bounded(attest.components.get(name)) for name in _COMPONENTS},
                "enclave_id": request.attributes.get("enclave_id"),
            }
        _log.info(
            "audit: %s %s %d for %s (%s)",
            request.method,
            line["endpoint"],
            response.status,
            operator.name,
            operator.key_id,
            extra={name: value for name, value in line.items() if value is not None},
        )


class RequestMetrics:
    """A completion hook."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._counted = (0, 0)

    def __call__(self, request: Request, response: Response) -> None:
        metrics = self._context.metrics
        operator: OperatorKey | None = request.attributes.get("operator")
        contact = "unknown" if operator is None else operator.contact or "unknown"
        site = None if operator is None else operator.site_id
        metrics.count(
            "uid2_http_requests_total",
            api_contact=contact,
            site_id="null" if site is None else site,
            site_name="unknown",
            host=_host(request.host),
            status=response.status,
            method=request.method,
            path=request.route_path or "unknown",
        )
        for part in (request.header(VERSION_HEADER) or "").split(";")[:8]:
            name, found, number = part.partition("=")
            if found:
                metrics.count(
                    "uid2_client_versions_total", api_contact=contact, client_name=name, client_version=number
                )
        self._count_lookups()

    def _count_lookups(self) -> None:
        index = self._context.own.operators
        if index is None:
            return
        lookups, misses = index.lookups, index.cache_misses
        # A refresh of the keys starts their counters anew.
        before = self._counted if lookups >= self._counted[0] else (0, 0)
        metrics = self._context.metrics
        metrics.count("uid2_cache_total_count_total", lookups - before[0], cache="apikeyindex")
        metrics.count("uid2_cache_miss_count_total", max(0, misses - before[1]), cache="apikeyindex")
        self._counted = (lookups, misses)


def _bounded(value: str | None) -> str | None:
    return None if value is None else value[:LONGEST_TEXT]


def _host(host: str) -> str:
    if not host:
        return "NotSpecified"
    return "10.x.x.x:xx" if host.startswith("10.") else host
