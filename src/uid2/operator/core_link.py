"""Everything between an operator and Core, built from its settings."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, final

from uid2.operator.attest import Attestation
from uid2.operator.attest_exchange import AttestExchange
from uid2.operator.attest_platform import TRUSTED
from uid2.operator.attest_rules import FIRST_ATTEMPTS, pause_after
from uid2.operator.core_client import CoreClient
from uid2.operator.core_endpoints import check_attest_url, core_addresses
from uid2.operator.core_headers import caller_identity
from uid2.operator.core_source import CoreSource
from uid2.operator.settings import OperatorSettings
from uid2.protocol.errors import DependencyError
from uid2.service.clock import Clock, Entropy
from uid2.service.metrics import Metrics
from uid2.stores.sources.presigned import PresignedSource

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

# Gives True when the program is to stop instead of going on after that many seconds.
Pause = Callable[[float], bool]


@final
class CoreLink:
    """`source` reads metadata from Core at `addresses` by store, `content` the files behind signed addresses."""

    def __init__(
        self,
        settings: OperatorSettings,
        version: str,
        instance_id: str,
        quotes: "QuoteSource | None",
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        client: CoreClient | None = None,
    ) -> None:
        url = settings.core_attest_url
        assert url is not None, "only built where core_attest_url is set"
        check_attest_url(url, settings.environment)
        caller = caller_identity(settings.core_api_token, version, instance_id, settings.operator_type)
        self.addresses = core_addresses(url, settings.metadata_paths)
        self._entropy = entropy
        self._client = client or CoreClient(clock)
        exchange = AttestExchange(url, self._client, caller, quotes, entropy)
        platform = TRUSTED if quotes is None else quotes.kind
        self.attestation = Attestation(exchange, caller, platform, clock, entropy, metrics)
        self.source = CoreSource(self._client, self.attestation, encrypted=settings.encrypted_files)
        self.content = PresignedSource()

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

    def close(self) -> None:
        self._client.close()
        self.content.close()
