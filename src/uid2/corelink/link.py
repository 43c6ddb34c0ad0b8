"""Everything between a program and Core."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, final

import httpx

from uid2.corelink.attestation import Attestation
from uid2.corelink.client import CoreClient
from uid2.corelink.endpoints import core_addresses
from uid2.corelink.exchange import AttestExchange
from uid2.corelink.headers import CallerIdentity
from uid2.corelink.source import CoreSource
from uid2.corelink.watch import AttestationWatch
from uid2.service.clock import Clock, Entropy
from uid2.stores.sources.presigned import PresignedSource

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

TRUSTED: Final = "trusted"


@final
class CoreLink:
    """`source` reads metadata from Core at `addresses` by store, `content` the files behind signed addresses."""

    def __init__(
        self,
        attest_url: str,
        metadata_paths: Mapping[str, str],
        caller: CallerIdentity,
        quotes: "QuoteSource | None",
        clock: Clock,
        entropy: Entropy,
        watch: AttestationWatch,
        *,
        encrypted: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`quotes` None means the protocol `trusted`; `encrypted` asks for encrypted files. `transport` replaces the
        network in tests.

        ConfigurationError: an address in `metadata_paths` that is not Core's.
        """
        self.addresses = core_addresses(attest_url, metadata_paths)
        self._client = CoreClient(clock, transport=transport)
        exchange = AttestExchange(attest_url, self._client, caller, quotes, entropy)
        platform = TRUSTED if quotes is None else quotes.kind
        self.attestation = Attestation(exchange, caller, platform, clock, entropy, watch)
        self.source = CoreSource(self._client, self.attestation, encrypted=encrypted)
        self.content = PresignedSource(transport)

    def close(self) -> None:
        """Calls that wait for an answer end too."""
        self._client.close()
        self.content.close()
