"""One verifier per attestation protocol (core chapter, section 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochSeconds

# Explanations by code (core chapter, 4.3).
EXPLANATIONS: Final = {
    "BAD_FORMAT": "The payload is ill-formatted",
    "BAD_PAYLOAD": "Cannot verify payload with the signature",
    "BAD_CERTIFICATE": "Cannot verify the certificate chain",
    "FORBIDDEN_ENCLAVE": "The enclave identifier is unknown",
    "UNKNOWN_ATTESTATION_URL": "The given attestation URL is unknown",
    "INVALID_PROTOCOL": "The given protocol is not valid",
}


class EvidenceRefusedError(Uid2Error):
    """Evidence that does not convince: `explanation_code` is the reference's, `reason_code` the finer one of ours."""

    code = "evidence_refused"

    def __init__(
        self, message: str, explanation_code: str, reason_code: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.explanation_code = explanation_code
        self.reason_code = reason_code
        self.facts = dict(facts or {})

    @property
    def explanation(self) -> str:
        return EXPLANATIONS.get(self.explanation_code, EXPLANATIONS["BAD_PAYLOAD"])


class EvidenceUndecidedError(Uid2Error):
    """Core lacks what it needs for a verdict (collateral): the operator is not to blame and shall come again."""

    code = "evidence_undecided"

    def __init__(
        self, message: str, reason_code: str, *, next_step: str = "", facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.reason_code = reason_code
        self.facts = dict(facts or {})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an operator presents. `endpoint` is Core's address as report data of version 2 binds it."""

    payload: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    report_data_version: int
    nonce: bytes | None = field(repr=False)
    endpoint: str


@dataclass(frozen=True, slots=True)
class Attested:
    """`enclave_id` goes into the JWT, `facts` into the log line of the verdict."""

    enclave_id: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Verifier(Protocol):
    async def verify(self, evidence: Evidence, now: EpochSeconds) -> Attested:
        """Raises EvidenceRefusedError or EvidenceUndecidedError."""
        ...


Verifiers = Mapping[str, Verifier]
