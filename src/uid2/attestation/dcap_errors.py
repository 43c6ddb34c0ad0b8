"""What the texts of the verification library mean. It has no error classes (enclave chapter, 2.8)."""

from typing import Final

from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable

_R = AttestationReason

# The first fragment found in the text decides; the texts are those of the locked version of dcap-qvl.
_MEANINGS: Final = (
    ("Debug mode is enabled", _R.DEBUG_ENCLAVE, "the enclave runs in debug mode: the host can read its memory"),
    ("TCB status is invalid: Revoked", _R.REVOKED, "the platform's keys are revoked"),
    ("CertRevoked", _R.REVOKED, "a certificate of the chain is revoked"),
    ("issue date is in the future", _R.COLLATERAL_EXPIRED, "the collateral is not valid yet at this time"),
    ("TCBInfo expired", _R.COLLATERAL_EXPIRED, "the TCB info has expired"),
    ("QE Identity expired", _R.COLLATERAL_EXPIRED, "the QE identity has expired"),
    ("QEIdentity expired", _R.COLLATERAL_EXPIRED, "the QE identity has expired"),
    ("CrlExpired", _R.COLLATERAL_EXPIRED, "a certificate revocation list has expired"),
    ("CRL expired", _R.COLLATERAL_EXPIRED, "a certificate revocation list has expired"),
    ("Failed to parse root CA CRL", _R.COLLATERAL_UNTRUSTED, "the root CRL is not one of the trusted root"),
    ("Failed to parse", _R.COLLATERAL_UNTRUSTED, "a part of the collateral cannot be read"),
    ("UnknownRevocationStatus", _R.COLLATERAL_UNTRUSTED, "no CRL speaks for a certificate of the chain"),
    ("invalid for tcb_info", _R.COLLATERAL_UNTRUSTED, "the TCB info is not signed by its issuer"),
    ("invalid for qe_identity", _R.COLLATERAL_UNTRUSTED, "the QE identity is not signed by its issuer"),
    ("chain is too short", _R.COLLATERAL_UNTRUSTED, "an issuer chain of the collateral is too short"),
    ("Unsupported QE Identity", _R.COLLATERAL_UNTRUSTED, "the QE identity is not one for SGX"),
    ("Unsupported TCB", _R.COLLATERAL_UNTRUSTED, "the TCB info is not one for SGX"),
    ("component count mismatch", _R.COLLATERAL_UNTRUSTED, "the TCB info does not have 16 components"),
    ("Failed to verify certificate chain", _R.BAD_CERTIFICATE_CHAIN, "a certificate chain does not lead to the root"),
    ("Unsupported DCAP PCK cert format", _R.UNSUPPORTED_CERTIFICATION, "the quote carries no PCK certificate chain"),
    ("invalid for qe_report", _R.BAD_SIGNATURE, "the quoting enclave's report is not signed by the platform key"),
    ("QE report hash mismatch", _R.BAD_QE_REPORT, "the quoting enclave does not vouch for the attestation key"),
    ("Invalid QE auth data length", _R.BAD_QUOTE_FORMAT, "authentication data that is not 32 bytes long"),
    ("QE ISVSVN", _R.TCB_NOT_ACCEPTABLE, "the quoting enclave is older than every known level"),
    ("QE ", _R.QE_IDENTITY_MISMATCH, "the quoting enclave is not the one of the QE identity"),
    ("ISV enclave report signature", _R.BAD_SIGNATURE, "the signature of the quote does not match its content"),
    ("Fmspc mismatch", _R.PLATFORM_MISMATCH, "the TCB info is for another platform model"),
    ("No matching TCB level", _R.TCB_NOT_ACCEPTABLE, "the platform is older than every known TCB level"),
    ("TCB level", _R.TCB_NOT_ACCEPTABLE, "the platform is older than every known TCB level"),
    ("Failed to decode quote", _R.BAD_QUOTE_FORMAT, "the quote cannot be decoded"),
    ("Unsupported", _R.UNSUPPORTED_QUOTE, "a quote of an unsupported kind"),
    ("Unknown QE vendor", _R.UNSUPPORTED_QUOTE, "the quoting enclave's vendor is not Intel"),
)


def refusal_of(text: str) -> AttestationError:
    """The refusal for the library's error text; unknown texts refuse as a bad signature."""
    for fragment, reason, message in _MEANINGS:
        if fragment in text:
            if reason is AttestationReason.COLLATERAL_EXPIRED:
                return CollateralUnavailable(
                    reason, message, next_step="fetch the collateral anew and check this machine's clock"
                )
            return AttestationError(reason, message)
    return AttestationError(AttestationReason.BAD_SIGNATURE, "the quote cannot be verified")
