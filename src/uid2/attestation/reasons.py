"""Why evidence is refused: our reason code beside the reference's explanation code (enclave chapter, 2.5)."""

from enum import StrEnum
from typing import Final

from uid2.protocol.errors import Uid2Error


class AttestationReason(StrEnum):
    BAD_QUOTE_FORMAT = "bad_quote_format"
    UNSUPPORTED_QUOTE = "unsupported_quote"
    TRAILING_BYTES = "trailing_bytes"
    RESERVED_BYTES = "reserved_bytes"
    UNSUPPORTED_CERTIFICATION = "unsupported_certification"
    BAD_CERTIFICATION_DATA = "bad_certification_data"
    BAD_SIGNATURE = "bad_signature"
    BAD_QE_REPORT = "bad_qe_report"
    QE_IDENTITY_MISMATCH = "qe_identity_mismatch"
    UNTRUSTED_ROOT = "untrusted_root"
    TEST_ROOT = "test_root"
    BAD_CERTIFICATE_CHAIN = "bad_certificate_chain"
    REVOKED = "revoked"
    COLLATERAL_UNTRUSTED = "collateral_untrusted"
    COLLATERAL_EXPIRED = "collateral_expired"
    COLLATERAL_MISSING = "collateral_missing"
    PLATFORM_MISMATCH = "platform_mismatch"
    TCB_NOT_ACCEPTABLE = "tcb_not_acceptable"
    TCB_ROLLBACK = "tcb_rollback"
    DEBUG_ENCLAVE = "debug_enclave"
    FORBIDDEN_ATTRIBUTES = "forbidden_attributes"
    WRONG_PRODUCT = "wrong_product"
    SVN_TOO_LOW = "svn_too_low"
    UNKNOWN_MRENCLAVE = "unknown_mrenclave"
    SIMULATED_ENCLAVE = "simulated_enclave"
    REPORT_DATA_MISMATCH = "report_data_mismatch"


BAD_PAYLOAD: Final = "BAD_PAYLOAD"
BAD_CERTIFICATE: Final = "BAD_CERTIFICATE"
FORBIDDEN_ENCLAVE: Final = "FORBIDDEN_ENCLAVE"

_R = AttestationReason
_CERTIFICATE: Final = frozenset(
    {
        _R.UNTRUSTED_ROOT,
        _R.TEST_ROOT,
        _R.BAD_CERTIFICATE_CHAIN,
        _R.BAD_CERTIFICATION_DATA,
        _R.UNSUPPORTED_CERTIFICATION,
        _R.REVOKED,
        _R.COLLATERAL_UNTRUSTED,
    }
)
_ENCLAVE: Final = frozenset(
    {
        _R.PLATFORM_MISMATCH,
        _R.TCB_NOT_ACCEPTABLE,
        _R.TCB_ROLLBACK,
        _R.DEBUG_ENCLAVE,
        _R.FORBIDDEN_ATTRIBUTES,
        _R.WRONG_PRODUCT,
        _R.SVN_TOO_LOW,
        _R.UNKNOWN_MRENCLAVE,
        _R.SIMULATED_ENCLAVE,
        _R.QE_IDENTITY_MISMATCH,
    }
)


class AttestationError(Uid2Error):
    """Evidence that proves nothing. The message names fields and statuses, never key material."""

    code = "attestation"

    def __init__(self, reason: AttestationReason, message: str, *, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason

    @property
    def explanation_code(self) -> str:
        """The reference's code (core chapter, 4.3)."""
        if self.reason in _CERTIFICATE:
            return BAD_CERTIFICATE
        return FORBIDDEN_ENCLAVE if self.reason in _ENCLAVE else BAD_PAYLOAD


class CollateralUnavailable(AttestationError):  # noqa: N818 - the verdict is open, nothing is refused
    """The verifier lacks valid collateral: not the fault of whoever made the quote."""

    code = "collateral_unavailable"
