"""What every handler of the opt-out service gets."""

from dataclasses import dataclass, field

from uid2.optout.bucket import Bucket
from uid2.optout.file_list import FileList
from uid2.optout.operator_keys import OperatorKeys
from uid2.optout.partitions import PartitionProducer
from uid2.optout.partner_list import PartnerList
from uid2.optout.partner_sender import Forwarding
from uid2.optout.producer import DeltaProducer
from uid2.optout.queue import OptOutQueue
from uid2.optout.settings import OptOutSettings
from uid2.optout.shared_tail import SharedTail
from uid2.optout.tail import Tail
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.ids import EpochSeconds
from uid2.service.clock import Clock
from uid2.service.jwt import JwtVerifier
from uid2.service.messages import Request
from uid2.service.metrics import Metrics
from uid2.service.signed_urls import UrlSigner


@dataclass(frozen=True, slots=True)
class OptOutContext:
    settings: OptOutSettings
    clock: Clock
    metrics: Metrics
    bucket: Bucket
    urls: UrlSigner
    files: FileList
    queue: OptOutQueue
    tail: Tail
    shared: SharedTail | None
    keys: OperatorKeys
    producer: DeltaProducer
    partitions: PartitionProducer | None
    partners: PartnerList | None
    forwarding: Forwarding | None
    token_key: GcmKey = field(repr=False)
    jwt_verifier: JwtVerifier

    def now(self) -> EpochSeconds:
        return EpochSeconds(self.clock.now_ms() // 1000)

    def base_url(self, request: Request) -> str:
        """The service's own address: as configured, else as the caller wrote it."""
        return (self.settings.optout_url or f"{request.scheme}://{request.host}").rstrip("/")
