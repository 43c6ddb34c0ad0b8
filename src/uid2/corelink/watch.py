"""What a program does about its standing with Core: the part that differs between the clients of Core."""

from collections.abc import Mapping
from typing import Any, Protocol

from uid2.corelink.exchange import AttestationRefusedError
from uid2.protocol.errors import Uid2Error


class AttestationWatch(Protocol):
    """Told of what happens, from any thread; no call may block."""

    def attested(self) -> None:
        """Core has granted credentials."""
        ...

    def refused(self, error: AttestationRefusedError) -> None:
        """Core has refused; no further attempt follows."""
        ...

    def failed(self, error: Uid2Error) -> None:
        """An attempt to attest has failed; another one follows."""
        ...

    def core_answered(self) -> None:
        """Core has accepted a request."""
        ...

    def core_failed(self) -> None:
        """Core could not be reached, or did not accept a request."""
        ...

    def skew_measured(self, skew_ms: int) -> None:
        """How far this clock is ahead of Core's."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Further members of `attestation` in /ops/status."""
        ...
