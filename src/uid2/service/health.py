"""Health of the parts of a service (operator API chapter, 13.1 and 13.2)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from uid2.service.clock import Clock
from uid2.service.messages import Request, Response

NOT_STARTED: Final = "not started"
STILL_STARTING: Final = "still starting"
POD_MARKER: Final = Path("/app/pod_terminating/pod_terminating")

_log = logging.getLogger(__name__)


class HealthAnswer(Protocol):
    """What answers /ops/healthcheck."""

    async def handle(self, request: Request) -> Response: ...


@dataclass(slots=True)
class Component:
    """One part; `reason` says why it is unhealthy and prints as `null` when there is none."""

    name: str
    healthy: bool = False
    reason: str | None = NOT_STARTED

    def starting(self) -> None:
        self.fail(STILL_STARTING)

    def recover(self) -> None:
        self.healthy, self.reason = True, None

    def fail(self, reason: str | None) -> None:
        self.healthy, self.reason = False, reason


class PodTerminationMonitor:
    """Unhealthy while the marker file exists; looks at most once per interval."""

    def __init__(self, component: Component, clock: Clock, interval_ms: int = 3000, marker: Path = POD_MARKER) -> None:
        self._component = component
        self._clock = clock
        self._interval = interval_ms / 1000
        self._marker = marker
        self._looked: float | None = None
        component.recover()

    def look(self) -> None:
        now = self._clock.monotonic()
        if self._looked is not None and now - self._looked < self._interval:
            return
        self._looked = now
        terminating = self._marker.exists()
        if terminating and self._component.healthy:
            _log.warning("the pod is terminating")
        if terminating:
            self._component.fail("Pod is terminating")
        else:
            self._component.recover()


class Health:
    """The components of a service, in the order in which they were named."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}
        self._pod: PodTerminationMonitor | None = None

    def component(self, name: str) -> Component:
        """The component of that name, made on first use."""
        return self._components.setdefault(name, Component(name))

    def watch_pod(self, clock: Clock, interval_ms: int = 3000, marker: Path = POD_MARKER) -> None:
        self._pod = PodTerminationMonitor(self.component("PodTerminationMonitor"), clock, interval_ms, marker)

    def unhealthy(self) -> tuple[Component, ...]:
        if self._pod is not None:
            self._pod.look()
        return tuple(part for part in self._components.values() if not part.healthy)

    def states(self) -> dict[str, bool]:
        """Healthy or not by name, for the metric `uid2_component_health`."""
        unhealthy = {part.name for part in self.unhealthy()}
        return {name: name not in unhealthy for name in self._components}

    def response(self) -> Response:
        """200 `OK`, or 503 with one line per unhealthy component."""
        unhealthy = self.unhealthy()
        if not unhealthy:
            return Response(200, b"OK")
        lines = (f"{part.name}: {'null' if part.reason is None else part.reason}" for part in unhealthy)
        return Response(503, "\n".join(lines).encode())

    async def handle(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a handler
        return self.response()
