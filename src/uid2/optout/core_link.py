"""The opt-out service as a client of Core: a `trusted` key, attested again and again until Core refuses (10.1)."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, final

import httpx

from uid2.corelink.attestation import Attestation
from uid2.corelink.exchange import AttestationRefusedError
from uid2.corelink.headers import caller_identity, new_instance_id
from uid2.corelink.link import CoreLink
from uid2.optout.metric_names import APPLICATION
from uid2.optout.settings import OptOutSettings
from uid2.protocol.errors import Uid2Error
from uid2.service.clock import Clock, Entropy
from uid2.service.health import Health
from uid2.service.metrics import Metrics

COMPONENT: Final = "core-attestation"
# The reference presents itself so, and Core compares it with the type of the key.
OPERATOR_TYPE: Final = "public"
TICK_SECONDS: Final = 1.0


@final
class CoreStanding:
    """The service's `AttestationWatch`: counts, and keeps health at 503 until Core has accepted it once.

    Later outages stand in status and metrics alone: the keys that were loaded go on serving.
    """

    def __init__(self, clock: Clock, metrics: Metrics, health: Health) -> None:
        self._clock = clock
        self._metrics = metrics
        self._component = health.component(COMPONENT)
        self._component.starting()
        self._failing_since: float | None = None

    def attested(self) -> None:
        self._component.recover()
        self.core_answered()
        self._count("accepted")

    def refused(self, error: AttestationRefusedError) -> None:
        self._component.fail(error.message)
        self._count("refused")

    def failed(self, error: Uid2Error) -> None:
        if not self._component.healthy:
            self._component.fail(error.message)
        self.core_failed()
        self._count("failed")

    def core_answered(self) -> None:
        self._failing_since = None

    def core_failed(self) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()

    def skew_measured(self, skew_ms: int) -> None:
        self._metrics.gauge("uid2_optout_core_clock_skew_seconds", skew_ms / 1000)

    def status(self) -> Mapping[str, Any]:
        return {"failing_for_seconds": self._failing_for()}

    def sample(self, attestation: Attestation) -> None:
        """Brings the gauges up to date."""
        self._metrics.gauge("uid2_optout_attested", int(attestation.attested))
        if attestation.expires_at is not None:
            self._metrics.gauge("uid2_optout_attestation_expires", attestation.expires_at // 1000)
        self._metrics.gauge("uid2_optout_core_failing_seconds", self._failing_for() or 0)

    def _failing_for(self) -> int | None:
        since = self._failing_since
        return None if since is None else int(self._clock.monotonic() - since)

    def _count(self, result: str) -> None:
        self._metrics.count("uid2_optout_attestations_total", result=result)


def core_link(
    settings: OptOutSettings,
    version: str,
    clock: Clock,
    entropy: Entropy,
    standing: CoreStanding,
    transport: httpx.BaseTransport | None = None,
) -> CoreLink:
    """ConfigurationError: an operator key that no header may hold, or an address that is not Core's."""
    assert settings.core_attest_url is not None, "only built where core_attest_url is set"
    instance_id = new_instance_id(settings.uid_instance_id_prefix, entropy)
    caller = caller_identity(settings.core_api_token, APPLICATION, version, instance_id, OPERATOR_TYPE)
    return CoreLink(
        settings.core_attest_url,
        settings.store_paths,
        caller,
        None,
        clock,
        entropy,
        standing,
        transport=transport,
    )


async def stay_attested(attestation: Attestation, first: asyncio.Event) -> None:
    """Attests, renews in time and tries again after failures, until cancelled; `first` is set with the first success.

    AttestationRefusedError as soon as Core has refused any attempt.
    """
    while True:
        if attestation.refusal is not None:
            raise attestation.refusal
        if attestation.due():
            await asyncio.to_thread(attestation.renew)
        if attestation.attested:
            first.set()
        # A pause that ends sooner than the next tick is not made longer.
        await asyncio.sleep(min(TICK_SECONDS, attestation.wait_seconds() or TICK_SECONDS))
