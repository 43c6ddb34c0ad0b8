"""Between an operator and Core: the link from its settings, the first attestation, the way out after twelve hours."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, final

from uid2.corelink.endpoints import check_attest_url
from uid2.corelink.headers import caller_identity
from uid2.corelink.link import CoreLink
from uid2.corelink.rules import pause_after
from uid2.operator.core_outage import CoreOutage
from uid2.operator.metric_names import APPLICATION
from uid2.operator.settings import OperatorSettings
from uid2.protocol.errors import DependencyError
from uid2.service.clock import Clock, Entropy
from uid2.service.metrics import Metrics

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

FIRST_ATTEMPTS: Final = 4

# Gives True when the program is to stop instead of going on after that many seconds.
Pause = Callable[[float], bool]


@final
class OperatorCoreLink:
    """`addresses`, `source` and `content` as of `CoreLink`; `outage` knows when the operator may not go on."""

    def __init__(
        self,
        settings: OperatorSettings,
        version: str,
        instance_id: str,
        quotes: "QuoteSource | None",
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
    ) -> None:
        url = settings.core_attest_url
        assert url is not None, "only built where core_attest_url is set"
        check_attest_url(url, settings.environment)
        caller = caller_identity(settings.core_api_token, APPLICATION, version, instance_id, settings.operator_type)
        self._entropy = entropy
        self.outage = CoreOutage(clock, metrics)
        self._link = CoreLink(
            url,
            settings.metadata_paths,
            caller,
            quotes,
            clock,
            entropy,
            self.outage,
            encrypted=settings.encrypted_files,
        )
        self.addresses = self._link.addresses
        self.attestation = self._link.attestation
        self.source = self._link.source
        self.content = self._link.content

    def attest_first(self, pause: Pause) -> bool:
        """The first attestation, tried a few times; False when the program is to stop.

        AttestationRefusedError: Core refused (exit 3). DependencyError: Core cannot be reached (exit 4).
        """
        for attempt in range(1, FIRST_ATTEMPTS + 1):
            try:
                self.attestation.credentials()
            except DependencyError:
                if attempt == FIRST_ATTEMPTS:
                    raise
                if pause(self.attestation.wait_seconds()):
                    return False
            else:
                return True
        return False

    def pauses(self) -> Iterator[float]:
        """Between attempts at the first load of the stores."""
        return (pause_after(n, self._entropy.bytes(4)) for n in chain(range(1, 5), repeat(4)))

    def sample(self) -> None:
        """Brings the gauges up to date."""
        self.outage.sample(attested=self.attestation.attested, expires_at=self.attestation.expires_at)

    def close(self) -> None:
        self._link.close()
