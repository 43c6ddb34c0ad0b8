"""From bytes to facts: a quote verified against collateral, a root, a policy and a time (enclave chapter, 2.2 to 2.8).

dcap-qvl checks signatures, chains, CRLs, dates and the TCB level; what it lets through is refused here.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any, Final

import dcap_qvl
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from uid2.attestation.collateral import Collateral
from uid2.attestation.dcap_errors import refusal_of
from uid2.attestation.pck import PlatformKey, parse_chain, platform_key
from uid2.attestation.policy import OUT_OF_DATE, TcbPolicy
from uid2.attestation.quote import DEBUG, EINITTOKEN_KEY, INIT, MODE64BIT, PROVISION_KEY, Quote, parse_quote
from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
from uid2.attestation.roots import TEST_MARK, RootKind, TrustRoot
from uid2.protocol.ids import EpochSeconds

_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """Facts. `mr_enclave`, `mr_signer`: lower-case hex of 32 bytes; `valid_until`: the end of the collateral."""

    mr_enclave: str
    mr_signer: str
    product_id: int
    svn: int
    report_data: bytes = field(repr=False)
    status: str
    platform_status: str
    qe_status: str
    advisories: tuple[str, ...]
    fmspc: str
    evaluation_number: int
    valid_until: EpochSeconds
    root_kind: RootKind


def verify_quote(
    quote: bytes, collateral: Collateral, root: TrustRoot, policy: TcbPolicy, now: EpochSeconds
) -> VerifiedQuote:
    """Raises AttestationError with the reason, or CollateralUnavailable when only the collateral is at fault."""
    parsed = parse_quote(quote)
    key = platform_key(parsed)
    check_root(key.chain, root)
    _check_collateral(collateral, root, now)
    claims = _claims(quote, collateral, root, now)
    _check_quoting_enclave(parsed)
    _check_platform(key, collateral)
    _check_attributes(parsed)
    platform, qe = claims["platform"], claims["qe"]
    status = claims["tcb"]["status"]
    advisories = tuple(sorted(claims["tcb"]["advisory_ids"]))
    evaluation = min(int(claims["tcb"]["eval_data_number"]), int(qe["tcb_eval_data_number"]))
    _check_policy(policy, status, int(platform["tcb_date_tag"]), advisories, evaluation, now)
    return VerifiedQuote(
        mr_enclave=parsed.report.mr_enclave.hex(),
        mr_signer=parsed.report.mr_signer.hex(),
        product_id=parsed.report.isv_prod_id,
        svn=parsed.report.isv_svn,
        report_data=parsed.report.report_data,
        status=status,
        platform_status=platform["tcb_level"]["tcbStatus"],
        qe_status=qe["tcb_level"]["tcbStatus"],
        advisories=advisories,
        fmspc=key.fmspc,
        evaluation_number=evaluation,
        valid_until=collateral.valid_until,
        root_kind=root.kind,
    )


def _claims(quote: bytes, collateral: Collateral, root: TrustRoot, now: EpochSeconds) -> dict[str, Any]:
    try:
        verifier = dcap_qvl.QuoteVerifier(root.der)
        parts = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_bundle())
        # Only this call tells causes; only the next one tells dates and evaluation numbers.
        dcap_qvl.verify_with_root_ca(quote, parts, root.der, now)
        policy = dcap_qvl.QuotePolicy.claims_only(now)
        claims: dict[str, Any] = msgspec.json.decode(verifier.verify_with_policy(quote, parts, now, policy).to_json())
    except (ValueError, OverflowError) as error:
        raise refusal_of(str(error)) from None
    return claims


def check_root(chain: tuple[x509.Certificate, ...], root: TrustRoot) -> None:
    """Raises AttestationError unless the chain ends in the root. Cheap, and needs no collateral."""
    # By content: certificates that merely bear Intel's names exist.
    marked = any(TEST_MARK in certificate.subject.rfc4514_string() for certificate in chain)
    same = chain[-1].public_bytes(Encoding.DER) == root.der
    if marked and not (same and root.kind == "TEST"):
        raise AttestationError(AttestationReason.TEST_ROOT, "the platform is a simulated one, for tests only")
    if not same:
        raise AttestationError(AttestationReason.UNTRUSTED_ROOT, "the platform's chain ends in another root")


def _check_collateral(collateral: Collateral, root: TrustRoot, now: EpochSeconds) -> None:
    chains = (
        ("PCK CRL", collateral.pck_crl_issuer_chain),
        ("TCB info", collateral.tcb_info_issuer_chain),
        ("QE identity", collateral.qe_identity_issuer_chain),
    )
    for name, pem in chains:
        try:
            last = parse_chain(pem.encode())[-1].public_bytes(Encoding.DER)
        except AttestationError:
            last = b""
        if last != root.der:
            raise AttestationError(
                AttestationReason.COLLATERAL_UNTRUSTED, f"the issuer chain of the {name} does not end in the root"
            )
    if not collateral.valid_from <= now <= collateral.valid_until:
        raise CollateralUnavailable(
            AttestationReason.COLLATERAL_EXPIRED,
            "the collateral is not valid at this time",
            next_step="fetch the collateral anew and check this machine's clock",
        )


def _check_quoting_enclave(quote: Quote) -> None:
    expected = hashlib.sha256(quote.attestation_key + quote.auth_data).digest() + bytes(32)
    if not hmac.compare_digest(quote.qe_report.report_data, expected):
        raise AttestationError(
            AttestationReason.BAD_QE_REPORT, "the report data of the quoting enclave is not the key's digest and zeros"
        )


def _check_platform(key: PlatformKey, collateral: Collateral) -> None:
    info: Any = msgspec.json.decode(collateral.tcb_info)
    if str(info.get("fmspc", "")).upper() != key.fmspc:
        raise AttestationError(AttestationReason.PLATFORM_MISMATCH, "the TCB info is for another platform model")
    if str(info.get("pceId", "")).upper() != key.pce_id:
        raise AttestationError(AttestationReason.PLATFORM_MISMATCH, "the TCB info is for another PCE")
    if info.get("tcbType") != 0:
        raise AttestationError(AttestationReason.COLLATERAL_UNTRUSTED, "the TCB info is of an unknown TCB type")
    if key.components != key.cpu_svn:
        raise AttestationError(
            AttestationReason.PLATFORM_MISMATCH, "the component SVNs of the PCK certificate contradict its CPUSVN"
        )


def _check_attributes(quote: Quote) -> None:
    flags = quote.report.flags
    if flags & DEBUG:
        raise AttestationError(
            AttestationReason.DEBUG_ENCLAVE, "the enclave runs in debug mode: the host can read its memory"
        )
    if flags & (PROVISION_KEY | EINITTOKEN_KEY) or flags & (INIT | MODE64BIT) != INIT | MODE64BIT:
        raise AttestationError(
            AttestationReason.FORBIDDEN_ATTRIBUTES,
            f"the enclave has the attributes {flags:#x}, not those of a workload",
        )


def _check_policy(
    policy: TcbPolicy, status: str, tcb_date: int, advisories: tuple[str, ...], evaluation: int, now: EpochSeconds
) -> None:
    if evaluation < policy.minimum_evaluation_number:
        raise AttestationError(
            AttestationReason.TCB_ROLLBACK,
            f"collateral of evaluation number {evaluation}; the policy asks for {policy.minimum_evaluation_number}",
        )
    in_grace = status in OUT_OF_DATE and now - tcb_date <= policy.grace_days * _DAY and policy.grace_days > 0
    if status not in policy.accepted_statuses and not in_grace:
        raise AttestationError(
            AttestationReason.TCB_NOT_ACCEPTABLE,
            f"the platform's TCB status is {status}",
            next_step="update firmware and microcode of the machine, or extend attestation_policy",
        )
    if policy.accepted_advisories is not None and (open_ := set(advisories) - policy.accepted_advisories):
        raise AttestationError(
            AttestationReason.TCB_NOT_ACCEPTABLE,
            f"advisories {', '.join(sorted(open_))} are open on the platform",
            next_step="update firmware and microcode of the machine, or extend attestation_policy",
        )
