"""What every handler of Core gets."""

from dataclasses import dataclass, field

from uid2.core.nonces import NonceStore
from uid2.core.own_data import OwnData
from uid2.core.settings import CoreSettings
from uid2.core.signer import Signer
from uid2.core.verifiers.interface import Verifiers
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.ids import EpochSeconds
from uid2.service.clock import Clock, Entropy
from uid2.service.jwt import JwtVerifier
from uid2.service.messages import Request
from uid2.service.metrics import Metrics
from uid2.service.signed_urls import UrlSigner
from uid2.stores.sources.base import BlobSource


@dataclass(frozen=True, slots=True)
class CoreContext:
    settings: CoreSettings
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    source: BlobSource
    urls: UrlSigner
    own: OwnData
    token_key: GcmKey = field(repr=False)
    jwt_verifier: JwtVerifier
    signer: Signer | None
    verifiers: Verifiers
    nonces: NonceStore

    def now(self) -> EpochSeconds:
        return EpochSeconds(self.clock.now_ms() // 1000)

    def base_url(self, request: Request) -> str:
        """Core's own address: as configured, else as the caller wrote it."""
        return (self.settings.core_public_url or f"{request.scheme}://{request.host}").rstrip("/")
