"""Protocol `azure-sgx`: an SGX quote, verified against Intel's collateral (enclave chapter, sections 1 to 3).

quote ─▶ collateral of its platform ─▶ signatures, chains, TCB policy ─▶ enclave ─▶ report data
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, final

from uid2.attestation.binding import endpoint_of, report_data_v1, report_data_v2
from uid2.attestation.claims import check_enclave, check_report_data
from uid2.attestation.collateral import CollateralSource
from uid2.attestation.pck import platform_key
from uid2.attestation.policy import TcbPolicy
from uid2.attestation.quote import parse_quote
from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
from uid2.attestation.roots import TrustRoot
from uid2.attestation.verify import VerifiedQuote, check_root, verify_quote
from uid2.core.verifiers.interface import Attested, Evidence, EvidenceRefusedError, EvidenceUndecidedError
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import EpochSeconds

AZURE_SGX: Final = "azure-sgx"


@final
@dataclass(frozen=True, slots=True)
class AzureSgxVerifier:
    """`registered` gives the accepted measurements at the moment of a request."""

    collateral: CollateralSource
    root: TrustRoot
    policy: TcbPolicy
    registered: Callable[[], Collection[str]] = field(repr=False)
    minimum_svn: int = 2
    simulated_allowed: bool = False
    minimum_report_data_version: int = 1

    async def verify(self, evidence: Evidence, now: EpochSeconds) -> Attested:
        facts: dict[str, Any] = {"root": self.root.kind, "report_data_version": evidence.report_data_version}
        try:
            report_data = self.expected(evidence)
            verified = await self._verified(evidence, now, facts)
            check_enclave(verified, self.registered(), self.minimum_svn, simulated_allowed=self.simulated_allowed)
            check_report_data(verified, report_data)
        except CollateralUnavailable as error:
            raise EvidenceUndecidedError(error.message, error.reason, next_step=error.next_step, facts=facts) from None
        except DependencyError as error:
            code = AttestationReason.COLLATERAL_MISSING
            raise EvidenceUndecidedError(error.message, code, next_step=error.next_step, facts=facts) from None
        except AttestationError as error:
            raise EvidenceRefusedError(error.message, error.explanation_code, error.reason, facts) from None
        return Attested(verified.mr_enclave, facts)

    async def _verified(self, evidence: Evidence, now: EpochSeconds, facts: dict[str, Any]) -> VerifiedQuote:
        quote = parse_quote(evidence.payload)
        # Until the signatures are verified this is what the operator claims; the log of a refusal should say it.
        facts["mr_enclave"] = quote.report.mr_enclave.hex()
        platform = platform_key(quote)
        # Before anything is fetched: a platform of another root, a simulated one for instance, is refused for good.
        check_root(platform.chain, self.root)
        collateral = await self.collateral.collateral_for(platform.fmspc, platform.authority, now)
        verified = await asyncio.to_thread(verify_quote, evidence.payload, collateral, self.root, self.policy, now)
        facts |= {
            "status": verified.status,
            "advisories": ",".join(verified.advisories) or "none",
            "fmspc": verified.fmspc,
            "evaluation_number": verified.evaluation_number,
            "collateral_until": verified.valid_until,
        }
        return verified

    def expected(self, evidence: Evidence) -> bytes:
        """The report data that this request must have; AttestationError when its version is too old."""
        if evidence.report_data_version < self.minimum_report_data_version:
            raise AttestationError(
                AttestationReason.REPORT_DATA_MISMATCH,
                f"report data of version {evidence.report_data_version}, "
                f"at least {self.minimum_report_data_version} is demanded here",
            )
        if evidence.nonce is None or evidence.report_data_version == 1:
            return report_data_v1(evidence.public_key)
        return report_data_v2(evidence.public_key, evidence.nonce, endpoint_of(evidence.endpoint))
