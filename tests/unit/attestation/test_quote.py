"""The parser of quotes refuses whatever is not exactly one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.attestation.vectors import FOLDER, MANIFEST, QUOTE, flipped

from uid2.attestation.pck import parse_chain, platform_key
from uid2.attestation.quote import LARGEST, parse_quote, parse_report_body
from uid2.attestation.reasons import AttestationError, AttestationReason


def test_the_fields_of_the_manifest() -> None:
    expected = MANIFEST["quotes"][0]["parsed"]
    quote = parse_quote(QUOTE)
    assert quote.header.qe_svn == expected["header"]["u16_at_8"]
    assert quote.header.user_data.hex() == expected["header"]["user_data"]
    assert quote.report.cpu_svn.hex() == expected["isv_report"]["cpu_svn"]
    assert quote.report.attributes.hex() == expected["isv_report"]["attributes"]
    key = platform_key(quote)
    assert (key.fmspc, key.pce_id, key.pce_svn, key.authority) == ("00A067110000", "0000", 13, "processor")


def test_every_truncation_is_refused() -> None:
    for length in range(len(QUOTE)):
        with pytest.raises(AttestationError):
            parse_quote(QUOTE[:length])


@pytest.mark.parametrize("name", ["tdx_quote_v4.bin", "tdx_quote_v5.bin"])
def test_tdx_is_refused(name: str) -> None:
    with pytest.raises(AttestationError) as caught:
        parse_quote((FOLDER / name).read_bytes())
    assert caught.value.reason is AttestationReason.UNSUPPORTED_QUOTE


def test_a_quote_without_chain_is_refused() -> None:
    with pytest.raises(AttestationError):
        platform_key(parse_quote((FOLDER / "custom_root_sgx" / "quote.dat").read_bytes()))


def test_too_large() -> None:
    with pytest.raises(AttestationError, match="more than"):
        parse_quote(QUOTE.ljust(LARGEST + 1, b"\0"))


@pytest.mark.parametrize("offset", [*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304)])
def test_reserved_bytes(offset: int) -> None:
    with pytest.raises(AttestationError) as caught:
        parse_report_body(flipped(QUOTE[48:432], offset))
    assert caught.value.reason is AttestationReason.RESERVED_BYTES


@given(st.binary(max_size=1500))
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    for candidate in (data, QUOTE[:1000] + data, QUOTE[:432] + data):
        with pytest.raises(AttestationError):
            parse_quote(candidate)


@pytest.mark.parametrize("extra", [b"x", b"\0\0", b"\n\n", b"-----BEGIN CERTIFICATE-----\n", b"# comment\n"])
def test_nothing_beside_certificates(extra: bytes) -> None:
    pem = parse_quote(QUOTE).certification_data.rstrip(b"\0")
    assert len(parse_chain(pem)) == len(parse_chain(pem + b"\0")) == 3
    for changed in (pem + extra, extra + pem):
        with pytest.raises(AttestationError):
            parse_chain(changed)
