"""Forged, stale, replayed and damaged evidence: each is refused by Core with its reason."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sim_stage import (
    ENCLAVE,
    KEY,
    NOW,
    OPERATOR,
    OTHER_OPERATOR,
    PRIVATE_OPERATOR,
    PUBLIC_KEY,
    Change,
    Stage,
    accepted,
    refused,
)

from uid2.attestation.binding import evidence_report_data, report_data_v1
from uid2.protocol.crypto.rsa import public_der
from uid2.simtee.platform import SimulatedPlatform

OTHER_KEY = public_der(rsa.generate_private_key(65537, 2048))
NITRO = "UID2-O-L-124-aws-operator-key"
DISABLED = "UID2-O-L-998-d1sabledKeyForE2ETestOnly00000000000000000000="


def test_both_versions_of_report_data_convince(stage: Stage) -> None:
    accepted(stage.attest(stage.good_quote()))
    accepted(stage.quoted())


@pytest.mark.parametrize(
    ("report_data", "reason"),
    [
        (report_data_v1(OTHER_KEY), "report_data_mismatch"),
        (bytes(64), "report_data_mismatch"),
        (report_data_v1(PUBLIC_KEY)[:32] + b"\x01" * 32, "report_data_mismatch"),
        (evidence_report_data(bytes(32), bytes(32)), "report_data_mismatch"),
    ],
    ids=["of another key", "zeros", "with a tail", "of evidence for an auditor"],
)
def test_a_quote_made_for_something_else(stage: Stage, report_data: bytes, reason: str) -> None:
    refused(stage.attest(stage.platform().quote(report_data, ENCLAVE)), reason)


def test_a_quote_over_another_nonce(stage: Stage) -> None:
    quote = stage.platform().quote(stage.report_data(stage.nonce()), ENCLAVE)
    refused(stage.attest(quote, stage.nonce()), "report_data_mismatch")


def test_a_quote_made_for_another_core(stage: Stage) -> None:
    nonce = stage.nonce()
    relayed = stage.report_data(nonce, endpoint="https://core.example.com")
    refused(stage.attest(stage.platform().quote(relayed, ENCLAVE), nonce), "report_data_mismatch")


def test_versions_of_report_data_are_not_taken_for_one_another(stage: Stage) -> None:
    nonce = stage.nonce()
    quote = stage.platform().quote(stage.report_data(nonce), ENCLAVE)
    refused(stage.attest(quote), "report_data_mismatch")
    refused(stage.attest(stage.good_quote(), stage.nonce()), "report_data_mismatch")


def test_where_a_nonce_is_demanded_version_1_is_refused(strict: Stage) -> None:
    refused(strict.attest(strict.good_quote()), "report_data_mismatch")
    accepted(strict.quoted())


def test_a_nonce_is_good_for_one_attempt_of_its_owner(stage: Stage) -> None:
    nonce = stage.nonce()
    quote = stage.platform().quote(stage.report_data(nonce), ENCLAVE)
    accepted(stage.attest(quote, nonce))
    refused(stage.attest(quote, nonce), "bad_nonce")
    foreign = stage.nonce(OTHER_OPERATOR)
    refused(stage.attest(stage.platform().quote(stage.report_data(foreign), ENCLAVE), foreign), "bad_nonce")
    made_up = secrets.token_bytes(32)
    refused(stage.attest(stage.platform().quote(stage.report_data(made_up), ENCLAVE), made_up), "bad_nonce")


def flip(at: int) -> Change:
    def change(quote: bytearray) -> None:
        quote[at] ^= 1

    return change


def put(at: int, *values: int) -> Change:
    def change(quote: bytearray) -> None:
        quote[at : at + len(values)] = bytes(values)

    return change


def cut(length: int) -> Change:
    def change(quote: bytearray) -> None:
        del quote[length:]

    return change


def add(data: bytes) -> Change:
    return lambda quote: quote.extend(data)


def certification(text: bytes) -> Change:
    """Other certification data, with the lengths that belong to it."""

    def change(quote: bytearray) -> None:
        start = 1014 + 32 + 6
        quote[start:] = text
        quote[start - 4 : start] = len(text).to_bytes(4, "little")
        quote[432:436] = (len(quote) - 436).to_bytes(4, "little")

    return change


DAMAGES: dict[str, tuple[Change, str]] = {
    "one byte": (cut(1), "bad_quote_format"),
    "a header alone": (cut(48), "bad_quote_format"),
    "no certification data": (cut(1046), "bad_quote_format"),
    "the last byte gone": (cut(-1), "bad_quote_format"),
    "a byte more": (add(b"\0"), "trailing_bytes"),
    "nine million bytes more": (add(bytes(7 << 20)), "bad_quote_format"),
    "version 4": (put(0, 4), "unsupported_quote"),
    "a key of P-384": (put(2, 3), "unsupported_quote"),
    "a TDX quote": (put(4, 0x81), "unsupported_quote"),
    "another vendor": (flip(12), "unsupported_quote"),
    "user data changed": (flip(30), "bad_signature"),
    "CPUSVN changed": (flip(48), "bad_signature"),
    "MRENCLAVE changed": (flip(112), "bad_signature"),
    "MRSIGNER changed": (flip(176), "bad_signature"),
    "product id changed": (flip(304), "bad_signature"),
    "report data changed": (flip(368), "bad_signature"),
    "signature changed": (flip(450), "bad_signature"),
    "attestation key changed": (flip(510), "bad_qe_report"),
    "report of the quoting enclave changed": (flip(564), "bad_signature"),
    "its signature changed": (flip(960), "bad_signature"),
    "authentication data changed": (flip(1020), "bad_qe_report"),
    "reserved bytes in use": (put(48 + 20, 1), "reserved_bytes"),
    "no certificates": (certification(b"no certificate"), "bad_certification_data"),
    "nothing as certificates": (certification(b""), "bad_certification_data"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_quote(stage: Stage, name: str) -> None:
    change, reason = DAMAGES[name]
    quote = bytearray(stage.good_quote())
    change(quote)
    refused(stage.attest(bytes(quote)), reason)


def test_more_than_core_reads(stage: Stage) -> None:
    answer = stage.attest(bytes(16 << 20))
    assert answer.status_code == 413
    assert "attestation_token" not in answer.text
    accepted(stage.quoted())


def test_certificates_of_another_order_or_number(stage: Stage) -> None:
    platform = stage.platform()
    made = platform.hierarchy
    for pem, reason in (
        (made.pck.pem + made.root.pem, "bad_certification_data"),
        (made.pck_chain + made.root.pem, "bad_certification_data"),
        (made.pck_chain + "and a word more\n", "bad_certification_data"),
        (made.pck_ca.pem + made.pck.pem + made.root.pem, "bad_certification_data"),
        (made.pck.pem + made.root.pem + made.pck_ca.pem, "test_root"),
    ):
        quote = bytearray(platform.quote(report_data_v1(PUBLIC_KEY), ENCLAVE))
        certification(pem.encode())(quote)
        refused(stage.attest(bytes(quote)), reason)


def test_the_certificates_of_another_platform(stage: Stage) -> None:
    quote = bytearray(stage.good_quote())
    other = SimulatedPlatform.create(NOW, stage.platform().scenario, root=stage.root)
    stage.pcs.platform = other
    certification(other.hierarchy.pck_chain.encode())(quote)
    refused(stage.attest(bytes(quote)), "bad_signature")


@pytest.mark.parametrize(
    ("key", "reason"),
    [("UID2-O-L-999-nobody.000000", "unrecognized_key"), (DISABLED, "key_disabled")],
    ids=["unknown", "disabled"],
)
def test_a_key_that_core_does_not_admit(stage: Stage, key: str, reason: str) -> None:
    answer = stage.attest(stage.good_quote(), key=key)
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    assert "attestation_token" not in answer.text


def test_an_operator_of_another_protocol_or_type(stage: Stage) -> None:
    quote = stage.good_quote()
    refused(stage.attest(quote, key=NITRO), "unknown_protocol")
    refused(stage.attest(quote, key=PRIVATE_OPERATOR), "wrong_operator_type")
    refused(stage.attest(quote, operator_type="private"), "wrong_operator_type")


def test_a_key_that_no_token_can_be_wrapped_for(stage: Stage) -> None:
    for key in (b"\0", PUBLIC_KEY[:-1], public_der(rsa.generate_private_key(65537, 1024))):
        quote = stage.platform().quote(report_data_v1(key), ENCLAVE)
        refused(stage.attest(quote, public_key=key), "bad_public_key", 400)


def test_neither_keys_nor_evidence_stand_in_cores_log(stage: Stage) -> None:
    accepted(stage.quoted())
    written = stage.core.written()
    for secret in (OPERATOR, OTHER_OPERATOR, KEY.private_numbers().d.to_bytes(256, "big").hex()):
        assert secret not in written
