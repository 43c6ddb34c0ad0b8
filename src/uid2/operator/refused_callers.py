"""Collects refused origins and apps for one log line an hour (operator chapter, 9.5)."""

import logging
from dataclasses import dataclass, field
from typing import Final

from uid2.protocol.ids import SiteId

PERIOD_SECONDS: Final = 3600
# A caller chooses these texts: neither their number nor their length may grow without end.
MOST_SITES: Final = 1000
MOST_PER_SITE: Final = 100
LONGEST: Final = 256

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RefusedCallers:
    """Refused origins and app names by site since the last line; `begun` on the clock's monotonic seconds."""

    begun: float
    _by_site: dict[SiteId, tuple[str, dict[str, None]]] = field(default_factory=dict)

    def add(self, site_id: SiteId, site_name: str, caller: str, now: float) -> None:
        """Remember one refusal; an hour after the last line the next is written."""
        if site_id in self._by_site or len(self._by_site) < MOST_SITES:
            callers = self._by_site.setdefault(site_id, (site_name, {}))[1]
            if len(callers) < MOST_PER_SITE:
                callers[_printable(caller)] = None
        if now - self.begun >= PERIOD_SECONDS:
            self.begun = now
            _log.error(self.line())
            self._by_site.clear()

    def line(self) -> str:
        """`InvalidHttpOriginAndAppName: site <name> (<id>): a, b | site …`."""
        sites = (f"site {name} ({site}): {', '.join(callers)}" for site, (name, callers) in self._by_site.items())
        return f"InvalidHttpOriginAndAppName: {' | '.join(sites)}"


def _printable(caller: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in caller[:LONGEST])
