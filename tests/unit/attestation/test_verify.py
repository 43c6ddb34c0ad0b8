"""The real quote, every mutation of it, and the dates of its collateral."""

import json
from typing import Any

import pytest
from tests.unit.attestation.vectors import BUNDLE, FOLDER, MUTATIONS, QUOTE, TIME, collateral, mutated

from uid2.attestation.claims import check_enclave, check_report_data
from uid2.attestation.collateral import Collateral
from uid2.attestation.policy import TcbPolicy
from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
from uid2.attestation.roots import INTEL_ROOT, INTEL_ROOT_SHA256
from uid2.attestation.roots import test_root as root_of
from uid2.attestation.verify import VerifiedQuote, verify_quote
from uid2.protocol.ids import EpochSeconds

R = AttestationReason
DAY = 86_400

REASONS = {
    "version_3_to_4": R.UNSUPPORTED_QUOTE,
    "att_key_type": R.UNSUPPORTED_QUOTE,
    "tee_type": R.UNSUPPORTED_QUOTE,
    "qe_vendor_id": R.UNSUPPORTED_QUOTE,
    "sig_len_lsb": R.BAD_QUOTE_FORMAT,
    "sig_len_huge": R.BAD_QUOTE_FORMAT,
    "attestation_key_x": R.BAD_QE_REPORT,
    "auth_data_len": R.BAD_QUOTE_FORMAT,
    "auth_data_byte": R.BAD_QE_REPORT,
    "cert_data_type_5_to_4": R.UNSUPPORTED_CERTIFICATION,
    "cert_data_len": R.BAD_QUOTE_FORMAT,
    "pck_leaf_pem_char": R.BAD_CERTIFICATION_DATA,
    "trailing_pem_newline": R.BAD_CERTIFICATION_DATA,
    "truncate_100": R.BAD_QUOTE_FORMAT,
    "truncate_431": R.BAD_QUOTE_FORMAT,
    "empty": R.BAD_QUOTE_FORMAT,
    "append_10_zero": R.TRAILING_BYTES,
    "tcb_info_trailing_space": R.COLLATERAL_UNTRUSTED,
    "tcb_info_status_edit": R.COLLATERAL_UNTRUSTED,
    "tcb_info_signature_bit": R.COLLATERAL_UNTRUSTED,
    "qe_identity_signature_bit": R.COLLATERAL_UNTRUSTED,
    "qe_identity_edit": R.COLLATERAL_UNTRUSTED,
    "root_crl_empty": R.COLLATERAL_MISSING,
    "root_crl_is_pck_crl": R.COLLATERAL_UNTRUSTED,
    "pck_crl_is_root_crl": R.COLLATERAL_UNTRUSTED,
    "tcb_chain_empty": R.COLLATERAL_MISSING,
    "tcb_chain_leaf_only": R.COLLATERAL_UNTRUSTED,
    "pck_crl_issuer_chain_garbage": R.COLLATERAL_UNTRUSTED,
    "tdx_collateral_for_sgx_quote": R.COLLATERAL_UNTRUSTED,
}


def verified(
    quote: bytes = QUOTE, bundle: Any = None, now: int = TIME, policy: TcbPolicy = TcbPolicy()
) -> VerifiedQuote:
    parts = Collateral.from_bundle(json.dumps(bundle or BUNDLE))
    return verify_quote(quote, parts, INTEL_ROOT, policy, EpochSeconds(now))


def reason_of(call: Any) -> AttestationReason:
    with pytest.raises(AttestationError) as caught:
        call()
    return caught.value.reason


def test_the_real_quote() -> None:
    facts = verified()
    assert facts.status == "ConfigurationAndSWHardeningNeeded"
    assert facts.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert facts.mr_enclave == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    assert (facts.product_id, facts.svn, facts.fmspc, facts.root_kind) == (0, 0, "00A067110000", "intel")
    assert facts.report_data == b"Hello, world!".ljust(64, b"\0")
    assert (facts.platform_status, facts.qe_status, facts.evaluation_number) == (facts.status, "UpToDate", 17)


@pytest.mark.parametrize("case", MUTATIONS, ids=lambda case: case["name"])
def test_every_mutation_is_refused(case: dict[str, Any]) -> None:
    quote, bundle = mutated(case)
    assert reason_of(lambda: verified(quote, bundle)) is REASONS.get(case["name"], R.BAD_SIGNATURE)


def test_the_collateral_ends() -> None:
    parts = collateral()
    assert verified(now=parts.valid_from).status
    assert verified(now=parts.valid_until - 1).status
    for now in (parts.valid_from - 1, parts.valid_until + 1, parts.valid_until + DAY, 4_000_000_000):
        with pytest.raises(CollateralUnavailable) as caught:
            verified(now=now)
        assert caught.value.reason is R.COLLATERAL_EXPIRED


def test_the_intel_root_is_intels() -> None:
    assert INTEL_ROOT.sha256 == INTEL_ROOT_SHA256
    assert INTEL_ROOT.der == (FOLDER / "intel_sgx_root_ca.der").read_bytes()


def test_a_root_that_bears_intels_name_is_another_root() -> None:
    look_alike = root_of((FOLDER / "custom_root_sgx" / "trustedRootCaCert.pem").read_bytes())
    assert (
        reason_of(lambda: verify_quote(QUOTE, collateral(), look_alike, TcbPolicy(), EpochSeconds(TIME)))
        is R.UNTRUSTED_ROOT
    )


def test_policy() -> None:
    assert reason_of(lambda: verified(policy=TcbPolicy(frozenset({"UpToDate"})))) is R.TCB_NOT_ACCEPTABLE
    one = TcbPolicy(accepted_advisories=frozenset({"INTEL-SA-00289"}))
    assert reason_of(lambda: verified(policy=one)) is R.TCB_NOT_ACCEPTABLE
    assert verified(policy=TcbPolicy(accepted_advisories=frozenset({"INTEL-SA-00289", "INTEL-SA-00615"}))).advisories
    assert reason_of(lambda: verified(policy=TcbPolicy(minimum_evaluation_number=18))) is R.TCB_ROLLBACK


def test_the_embedded_chain_of_a_bundle_is_dropped() -> None:
    parts = Collateral.from_bundle(json.dumps(BUNDLE | {"pck_certificate_chain": BUNDLE["tcb_info_issuer_chain"]}))
    assert "pck_certificate_chain" not in parts.to_bundle()
    assert verify_quote(QUOTE, parts, INTEL_ROOT, TcbPolicy(), EpochSeconds(TIME)).status


def test_a_real_enclave_that_is_not_ours() -> None:
    facts = verified()
    assert reason_of(lambda: check_enclave(facts, {facts.mr_enclave})) is R.WRONG_PRODUCT
    assert reason_of(lambda: check_report_data(facts, bytes(64))) is R.REPORT_DATA_MISMATCH
    check_report_data(facts, b"Hello, world!".ljust(64, b"\0"))


def test_explanation_codes() -> None:
    assert AttestationError(R.BAD_SIGNATURE, "").explanation_code == "BAD_PAYLOAD"
    assert AttestationError(R.REVOKED, "").explanation_code == "BAD_CERTIFICATE"
    assert AttestationError(R.UNKNOWN_MRENCLAVE, "").explanation_code == "FORBIDDEN_ENCLAVE"
