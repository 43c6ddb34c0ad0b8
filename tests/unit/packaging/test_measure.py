"""MRENCLAVE of synthetic libraries, against records written out by hand (enclave chapter, 5.3)."""

import hashlib
import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.packaging.enclave_samples import SAMPLE, sample_library, signing_key

from uid2.packaging.enclave_elf import PAGE, parse_enclave_elf
from uid2.packaging.measure import Measurement, measure_enclave
from uid2.packaging.sigstruct import EnclaveFileError, parse_sigstruct, verify_sigstruct
from uid2.packaging.synthetic import is_synthetic, simulated_measurement, synthetic_library


def record(name: bytes, rest: bytes) -> bytes:
    return (name.ljust(8, b"\0") + rest).ljust(64, b"\0")


def added(at: int, flags: int) -> bytes:
    return record(b"EADD", struct.pack("<QQ", at, flags))


def measured(at: int, flags: int, page: bytes) -> bytes:
    chunks = (
        record(b"EEXTEND", struct.pack("<Q", at + chunk)) + page[chunk : chunk + 256] for chunk in range(0, PAGE, 256)
    )
    return added(at, flags) + b"".join(chunks)


def test_the_first_record_is_the_creation() -> None:
    expected = record(b"ECREATE", struct.pack("<IQ", 1, 1 << 24))
    assert Measurement(1, 1 << 24).digest() == hashlib.sha256(expected).digest()


def test_a_library_is_measured_in_load_order() -> None:
    data = sample_library()
    at = 5 * PAGE
    stream = [record(b"ECREATE", struct.pack("<IQ", 1, 8 << 20))]
    stream.append(measured(PAGE, 0x201, data[PAGE : 2 * PAGE]))
    # Not writable in the file, but a relocation goes there.
    stream.append(measured(2 * PAGE, 0x207, data[2 * PAGE : 3 * PAGE]))
    stream.append(measured(3 * PAGE, 0x203, data[3 * PAGE : 3 * PAGE + 48].ljust(PAGE, b"\0")))
    stream.append(measured(4 * PAGE, 0x203, bytes(PAGE)))
    stream += [added(at + PAGE * page, 0x203) for page in range(256)]
    at += 256 * PAGE
    for _ in range(3):
        at += PAGE
        stream += [measured(at + PAGE * page, 0x203, b"\xcc" * PAGE) for page in range(2)]
        at += 2 * PAGE
        tcs = struct.pack("<QQQIIQQQQII", 0, 0, at + PAGE, 0, 2, 0, 0, at, at, 0xFFF, 0xFFF)
        stream.append(measured(at, 0x100, tcs.ljust(PAGE, b"\0")))
        at += PAGE
        stream += [measured(at + PAGE * page, 0x203, bytes(PAGE)) for page in range(2)]
        at += 2 * PAGE
    stream += [added(at + PAGE * page, 0x203) for page in range(1024)]
    assert measure_enclave(parse_enclave_elf(data)) == hashlib.sha256(b"".join(stream)).digest()


def test_the_signed_identity_is_the_simulated_measurement() -> None:
    data = sample_library()
    sigstruct = parse_sigstruct(parse_enclave_elf(data).metadata.sigstruct)
    verify_sigstruct(sigstruct)
    assert is_synthetic(data)
    assert sigstruct.assertion.mr_enclave == simulated_measurement(data)
    assert sigstruct.assertion.mr_enclave[:8] == bytes(8)
    assert sigstruct.assertion.mr_enclave[8:] == measure_enclave(parse_enclave_elf(data))[8:]
    assert (sigstruct.assertion.product_id, sigstruct.assertion.svn) == (770, 2)
    assert sigstruct.assertion.debug_refused


def test_a_library_is_the_same_bytes_again() -> None:
    assert synthetic_library(SAMPLE, signing_key()) == sample_library()


@pytest.mark.parametrize(
    "change",
    [{"content": bytes(32)}, {"kernel_heap": 2 << 20}, {"user_space": 8 << 20}, {"threads": 4}, {"thread_stack": 4096}],
)
def test_the_measurement_follows_content_and_sizes(change: dict[str, object]) -> None:
    other = synthetic_library(replace(SAMPLE, **change), signing_key())  # type: ignore[arg-type]
    assert simulated_measurement(other) != simulated_measurement(sample_library())


@pytest.mark.parametrize("change", [{"product_id": 771}, {"svn": 3}, {"date": "20260201"}, {"debuggable": True}])
def test_what_only_the_signature_holds_is_not_measured(change: dict[str, object]) -> None:
    other = synthetic_library(replace(SAMPLE, **change), signing_key())  # type: ignore[arg-type]
    assert other != sample_library()
    assert simulated_measurement(other) == simulated_measurement(sample_library())


def test_every_measured_byte_counts() -> None:
    data = sample_library()
    for at in (PAGE, PAGE + 100, 2 * PAGE, 3 * PAGE - 1):
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert simulated_measurement(flipped) != simulated_measurement(data)


@given(st.integers(0, 40000))
def test_a_library_cut_short_is_refused(length: int) -> None:
    data = sample_library()
    with pytest.raises(EnclaveFileError):
        measure_enclave(parse_enclave_elf(data[: min(length, len(data) - 193)]))


@given(st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_damaged_library_is_measured_or_refused(at: int, mask: int) -> None:
    data = bytearray(sample_library())
    data[at % 288] ^= mask
    data[(at * 7) % len(data)] ^= mask
    with suppress(EnclaveFileError):
        assert len(measure_enclave(parse_enclave_elf(bytes(data)))) == 32
