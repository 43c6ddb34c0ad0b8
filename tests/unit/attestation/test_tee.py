"""Quotes from Occlum's ioctls and Gramine's files, both played by the test."""

import ctypes
import errno
import os
from pathlib import Path

import pytest
from tests.unit.attestation.vectors import QUOTE

from uid2.attestation.tee.gramine import GramineQuoteSource
from uid2.attestation.tee.occlum import ATTEMPTS, GEN_DCAP_QUOTE, GET_DCAP_QUOTE_SIZE, OcclumQuoteSource
from uid2.attestation.tee.probe import find_quote_source
from uid2.attestation.tee.sources import QuoteUnavailableError, explain_quote_errors

REPORT_DATA = b"Hello, world!".ljust(64, b"\0")


class Device:
    """Answers the two ioctls as the kernel of the LibOS does; `errors` come first."""

    def __init__(self, quote: bytes = QUOTE, errors: tuple[int, ...] = ()) -> None:
        self._quote = quote
        self._errors = list(errors)
        self.report_data = b""
        self.pauses: list[float] = []

    def __call__(self, descriptor: int, request: int, argument: object) -> None:
        assert isinstance(argument, (ctypes.c_uint32, ctypes.Structure))
        if self._errors:
            raise OSError(self._errors.pop(0), "refused")
        if request == GET_DCAP_QUOTE_SIZE:
            ctypes.memmove(ctypes.addressof(argument), len(self._quote).to_bytes(4, "little"), 4)
            return
        assert request == GEN_DCAP_QUOTE
        assert ctypes.sizeof(argument) == 24
        data, size, buffer = (ctypes.c_uint64 * 3).from_buffer_copy(bytes(argument))
        self.report_data = ctypes.string_at(data, 64)
        assert int.from_bytes(ctypes.string_at(size, 4), "little") == len(self._quote)
        ctypes.memmove(buffer, self._quote, len(self._quote))

    def source(self) -> OcclumQuoteSource:
        return OcclumQuoteSource(Path(os.devnull), self, self.pauses.append)


def test_occlum_gives_the_quote() -> None:
    device = Device()
    assert device.source().quote(REPORT_DATA) == QUOTE
    assert device.report_data == REPORT_DATA


def test_occlum_busy_is_tried_again() -> None:
    device = Device(errors=(errno.EBUSY, errno.EAGAIN))
    assert device.source().quote(REPORT_DATA) == QUOTE
    assert device.pauses == [1.0, 1.0]


def test_occlum_failures_say_what_to_do() -> None:
    for device in (Device(errors=(errno.EINVAL,)), Device(errors=(errno.EBUSY,) * ATTEMPTS), Device(b"")):
        with pytest.raises(QuoteUnavailableError) as caught:
            device.source().quote(REPORT_DATA)
        assert "0xE0" in caught.value.next_step
    with pytest.raises(QuoteUnavailableError, match="No such file"):
        OcclumQuoteSource(Path("/nonexistent/sgx")).quote(REPORT_DATA)


def test_a_quote_over_other_report_data_is_noticed() -> None:
    with pytest.raises(QuoteUnavailableError, match="other report data"):
        Device().source().quote(bytes(64))
    with pytest.raises(QuoteUnavailableError, match="no usable quote"):
        Device(QUOTE[:2000]).source().quote(REPORT_DATA)


def test_report_data_has_64_bytes() -> None:
    with pytest.raises(ValueError, match="64"):
        Device().source().quote(bytes(32))


def test_gramine_gives_the_quote(tmp_path: Path) -> None:
    (tmp_path / "attestation_type").write_text("dcap\n")
    (tmp_path / "user_report_data").write_bytes(bytes(64))
    (tmp_path / "quote").write_bytes(QUOTE)
    source = find_quote_source(tmp_path / "sgx", tmp_path)
    assert isinstance(source, GramineQuoteSource)
    assert source.quote(REPORT_DATA) == QUOTE
    assert (tmp_path / "user_report_data").read_bytes() == REPORT_DATA


def test_gramine_without_dcap(tmp_path: Path) -> None:
    (tmp_path / "attestation_type").write_text("none")
    with pytest.raises(QuoteUnavailableError, match="none"):
        find_quote_source(tmp_path / "sgx", tmp_path)
    with pytest.raises(QuoteUnavailableError, match="user_report_data"):
        GramineQuoteSource(tmp_path).quote(REPORT_DATA)


def test_no_tee(tmp_path: Path) -> None:
    with pytest.raises(QuoteUnavailableError, match="no TEE"):
        find_quote_source(tmp_path / "sgx", tmp_path)


def test_error_numbers_are_explained() -> None:
    text = "[get_platform_quote_cert_data] Error 0xe019\np_sgx_get_quote_config 0xe019 then 0xE03F, 0xffff"
    assert [line[:6] for line in explain_quote_errors(text)] == ["0xe019", "0xe03f"]
