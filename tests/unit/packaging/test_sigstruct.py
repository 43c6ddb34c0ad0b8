"""SIGSTRUCT: fields, signature, and that no byte of it is free (enclave chapter, 5.1)."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit.packaging.enclave_samples import signing_key

from uid2.packaging.sigstruct import (
    LENGTH,
    EnclaveAssertion,
    EnclaveFileError,
    parse_sigstruct,
    sign_sigstruct,
    verify_sigstruct,
)

ASSERTION = EnclaveAssertion(mr_enclave=bytes(range(32)), product_id=770, svn=2, date="20260131")


def signed(assertion: EnclaveAssertion = ASSERTION) -> bytes:
    return sign_sigstruct(assertion, signing_key())


def check(data: bytes) -> None:
    verify_sigstruct(parse_sigstruct(data))


def test_fields_stand_where_the_processor_reads_them() -> None:
    data = signed()
    assert len(data) == LENGTH
    assert data[20:24] == bytes.fromhex("31012620")
    assert data[512:516] == b"\x03\0\0\0"
    assert data[960:992] == bytes(range(32))
    assert data[1024:1028] == bytes.fromhex("02030200")
    sigstruct = parse_sigstruct(data)
    assert sigstruct.assertion == ASSERTION
    assert sigstruct.mr_signer == hashlib.sha256(data[128:512]).digest()
    verify_sigstruct(sigstruct)


def test_quotients_are_those_of_the_processor() -> None:
    data = signed()
    s, n = (int.from_bytes(data[at : at + 384], "little") for at in (516, 128))
    assert int.from_bytes(data[1040:1424], "little") == s * s // n
    assert int.from_bytes(data[1424:], "little") == (s * s % n) * s // n


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_any_byte_is_refused(bit: int) -> None:
    data = signed()
    for at in range(LENGTH):
        flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        with pytest.raises(EnclaveFileError):
            check(flipped)


@pytest.mark.parametrize("length", [0, 1, 127, 900, LENGTH - 1, LENGTH + 1])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(EnclaveFileError, match="bytes"):
        parse_sigstruct(signed().ljust(length, b"\0")[:length])


def test_debug_is_refused_only_when_the_mask_says_so() -> None:
    assert ASSERTION.debug_refused
    for lax in (replace(ASSERTION, flags_mask=0xFFFFFFFFFFFFFFFD), replace(ASSERTION, flags=6)):
        assert not parse_sigstruct(signed(lax)).assertion.debug_refused


def test_another_key_form_cannot_sign() -> None:
    with pytest.raises(EnclaveFileError, match="exponent 3"):
        sign_sigstruct(ASSERTION, rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.mark.parametrize("date", ["2026013", "20261331", "20260100", "2026013a", "20260132"])
def test_a_date_is_a_date(date: str) -> None:
    with pytest.raises(EnclaveFileError, match="date"):
        signed(replace(ASSERTION, date=date))
