"""The usage log: who calls what from where, one set of lines a minute (operator chapter, 14.1)."""

import logging
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec

from uid2.operator.context import OperatorContext
from uid2.operator.request_metrics import client_version
from uid2.service.messages import Request, Response

FLUSH_SECONDS: Final = 60
MOST_DOMAINS: Final = 1000
NOT_RECORDED: Final = "<Not recorded>"
MERGED_VERSIONS: Final = 3
LONGEST_TEXT: Final = 128

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _PathUse:
    site_id: int | None
    domains: dict[tuple[str, str], int] = field(default_factory=dict)


class UsageLog:
    """A completion hook that collects in memory and writes at most once a minute."""

    def __init__(self, context: OperatorContext, known_paths: frozenset[str]) -> None:
        self._context = context
        self._known = known_paths
        self._paths: dict[str, _PathUse] = {}
        self._versions: dict[int, dict[str, int]] = {}
        self._flushed = context.clock.monotonic()
        self._limit_reported = False
        # Nothing is queued here, so nothing is skipped or dropped; the series are there for the dashboards.
        for name in ("uid2_api_usage_log_cycle_skipped_total", "uid2_api_usage_queue_full_total"):
            context.metrics.count(name, 0)

    def __call__(self, request: Request, _: Response) -> None:
        if request.method == "OPTIONS":
            return
        client = request.attributes.get("client")
        site_id = None if client is None else client.site_id
        path = request.route_path or request.path[:LONGEST_TEXT]
        if path in self._known or (client is not None and self._has_room(path)):
            contact = "unknown" if client is None else client.contact or "unknown"
            self._collect(path, site_id, _domain(request.header("referer")), contact)
        version = client_version(request)
        if site_id is not None and version is not None:
            self._count_version(site_id, version[:LONGEST_TEXT])
        now = self._context.clock.monotonic()
        if now - self._flushed >= FLUSH_SECONDS:
            self._flushed = now
            self.flush()

    def flush(self) -> None:
        """Writes what was collected and begins anew; versions go on counting."""
        for path, use in self._paths.items():
            first, _, rest = path.lstrip("/").partition("/")
            versioned = first.startswith("v") and bool(rest)
            domains = [
                {"domain": domain, "count": count, "apiContact": contact}
                for (domain, contact), count in use.domains.items()
            ]
            line = {
                "endpoint": rest if versioned else path.lstrip("/"),
                "siteId": use.site_id,
                "apiVersion": first if versioned else "unknown",
                "domainList": domains,
            }
            _log.info(msgspec.json.encode(line).decode())
        for site_id, versions in self._versions.items():
            _log.info("version log; siteId=%d versions=%s", site_id, msgspec.json.encode(versions).decode())
        self._paths.clear()
        self._limit_reported = False

    def _has_room(self, path: str) -> bool:
        limit = self._context.settings.logging_limit_max_invalid_paths_per_interval + len(self._known)
        if path in self._paths or len(self._paths) < limit:
            return True
        if not self._limit_reported:
            self._limit_reported = True
            _log.error("the usage log has reached its limit of paths in this interval")
        return False

    def _collect(self, path: str, site_id: int | None, domain: str, contact: str) -> None:
        use = self._paths.setdefault(path, _PathUse(site_id))
        key = (domain, contact)
        if key not in use.domains and len(use.domains) >= MOST_DOMAINS:
            self._context.metrics.count("uid2_api_usage_domain_missed_total")
            return
        use.domains[key] = use.domains.get(key, 0) + 1

    def _count_version(self, site_id: int, version: str) -> None:
        versions = self._versions.setdefault(site_id, {})
        if version not in versions and len(versions) >= (
            self._context.settings.logging_limit_max_version_buckets_per_site
        ):
            smallest = sorted((name for name in versions if name != NOT_RECORDED), key=versions.__getitem__)
            for name in smallest[:MERGED_VERSIONS]:
                versions[NOT_RECORDED] = versions.get(NOT_RECORDED, 0) + versions.pop(name)
        versions[version] = versions.get(version, 0) + 1


def _domain(referer: str | None) -> str:
    try:
        host = urlsplit(referer or "").hostname
    except ValueError:
        host = None
    return (host or "unknown")[:LONGEST_TEXT]
