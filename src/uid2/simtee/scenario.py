"""What a simulated platform is like (enclave chapter, 9.2): each knob leads to one outcome of the verifier."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

# Outside the ranges of Intel's platforms.
TEST_FMSPC: Final = "FFFFFFFFFF00"
Revocable = Literal["pck", "pck_ca", "tcb_signer", "root"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`tcb_status`, `qe_status`: spellings of 2.4. Times in seconds. The default platform is up to date."""

    tcb_status: str = "UpToDate"
    tcb_date: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    advisories: tuple[str, ...] = ()
    qe_status: str = "UpToDate"
    evaluation_number: int = 20
    revoked: frozenset[Revocable] = field(default=frozenset())
    # Seconds from the time of creation at which TCB info, QE identity and CRLs begin and end.
    collateral_begins: int = -3600
    collateral_ends: int = 7 * 86_400
    fmspc: str = TEST_FMSPC
    tcb_info_fmspc: str | None = None
    tcb_info_pce_id: str = "0000"
    tcb_type: int = 0
    # A level above the platform's components: none matches.
    lowest_component: int = 2
    component_disagrees: bool = False
    platform_authority: bool = False
    authentication_data: bytes = bytes(range(32))
    certification_type: int = 5
    qe_report_padding: bytes = bytes(32)
    qe_debug: bool = False
    qe_signer_known: bool = True
    marked: bool = True
    pck_ends: int = 30 * 86_400


@dataclass(frozen=True, slots=True)
class SimulatedEnclave:
    """What the workload's report says. MRENCLAVE begins with 8 zero bytes: no real enclave does."""

    mr_enclave: bytes
    mr_signer: bytes = bytes(32)
    product_id: int = 770
    svn: int = 2
    # INIT and MODE64BIT.
    flags: int = 0x5
    xfrm: int = 0xE7
    misc_select: int = 0
