"""Is a verified enclave ours, and does it speak for the presented key? (enclave chapter, 2.5)."""

import hmac
from collections.abc import Collection
from typing import Final

from uid2.attestation.reasons import AttestationError, AttestationReason
from uid2.attestation.verify import VerifiedQuote

PRODUCT_ID: Final = 770
DEFAULT_MINIMUM_SVN: Final = 2
# MRENCLAVE of a simulated enclave begins with 8 zero bytes.
SIMULATED_PREFIX: Final = "0" * 16


def check_enclave(
    verified: VerifiedQuote,
    registered: Collection[str],
    minimum_svn: int = DEFAULT_MINIMUM_SVN,
    *,
    simulated_allowed: bool = False,
) -> None:
    """`registered`: MRENCLAVEs in lower-case hex. Raises AttestationError: product, SVN, measurement."""
    if verified.product_id != PRODUCT_ID:
        raise AttestationError(
            AttestationReason.WRONG_PRODUCT, f"the enclave is of product {verified.product_id}, not {PRODUCT_ID}"
        )
    if verified.svn < minimum_svn:
        raise AttestationError(
            AttestationReason.SVN_TOO_LOW, f"the enclave's security version is {verified.svn}, below {minimum_svn}"
        )
    if is_simulated(verified) and not simulated_allowed:
        raise AttestationError(
            AttestationReason.SIMULATED_ENCLAVE, "the enclave is a simulated one; only a development store accepts it"
        )
    if verified.mr_enclave not in registered:
        raise AttestationError(
            AttestationReason.UNKNOWN_MRENCLAVE,
            "the enclave is not registered",
            next_step="register the identity record of the build: uid2 admin enclave add",
        )


def check_report_data(verified: VerifiedQuote, expected: bytes) -> None:
    """Raises AttestationError: the quote vouches for other data than the 64 bytes `expected`."""
    if not hmac.compare_digest(verified.report_data, expected):
        raise AttestationError(AttestationReason.REPORT_DATA_MISMATCH, "the quote does not vouch for what came with it")


def is_simulated(verified: VerifiedQuote) -> bool:
    return verified.root_kind == "TEST" or verified.mr_enclave.startswith(SIMULATED_PREFIX)
