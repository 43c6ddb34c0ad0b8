import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.encoding import decode_base64url, encode_base64url
from uid2.protocol.tcf import decode_consent

SUFFICIENT = "CPehNtWPehNtWABAMBFRACBoALAAAEJAAIYgAKwAQAKgArABAAqAAA"
INSUFFICIENT = "CPehXK9PehXK9ABAMBFRACBoADAAAEJAAIYgAKwAQAKgArABAAqAAA"
PURPOSES = (1, 2, 3, 4, 7, 10)


def _segment(
    consents: str, interests: str, purposes: str = "1" * 24, legitimate: str = "0" * 24, version: int = 2
) -> str:
    bits = f"{version:06b}" + "0" * 146 + purposes + legitimate + "0" * 13 + consents + interests
    bits += "0" * (-len(bits) % 8)
    return encode_base64url(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def _listed(largest: int, *vendors: int) -> str:
    return f"{largest:016b}0" + "".join("1" if vendor in vendors else "0" for vendor in range(1, largest + 1))


def _ranged(largest: int, *ranges: tuple[int, int]) -> str:
    entries = (f"0{first:016b}" if first == last else f"1{first:016b}{last:016b}" for first, last in ranges)
    return f"{largest:016b}1{len(ranges):012b}" + "".join(entries)


def test_reference_strings() -> None:
    assert decode_consent(SUFFICIENT).permits(21, PURPOSES)
    assert decode_consent(SUFFICIENT + ".YAAAAAAAAAA").permits(21, PURPOSES)
    assert not decode_consent(SUFFICIENT).permits(22, PURPOSES)
    assert not decode_consent(INSUFFICIENT).permits(21, PURPOSES)


@pytest.mark.parametrize("encoded", [_listed(30, 3, 21), _ranged(30, (3, 3), (20, 22))])
def test_both_vendor_encodings(encoded: str) -> None:
    consent = decode_consent(_segment(encoded, _listed(0)))
    assert consent.permits(21, PURPOSES)
    assert consent.permits(3, (24,))
    assert not consent.permits(4, (1,))
    assert not consent.permits(30, (1,))
    assert consent.permits(4, ())


def test_consent_and_interest_add_up() -> None:
    half, rest = "1" * 3 + "0" * 21, "0" * 3 + "1" * 21
    both = decode_consent(_segment(_listed(21, 21), _listed(21, 21), half, rest))
    assert both.permits(21, range(1, 25))
    one = decode_consent(_segment(_listed(21, 21), _listed(21), half, rest))
    assert one.permits(21, (1, 2, 3))
    assert not one.permits(21, (4,))


@pytest.mark.parametrize(
    "text",
    [
        "invalid_consent_string",
        "",
        ".",
        "C",
        SUFFICIENT + "=",
        SUFFICIENT[:20],
        _segment(_listed(1), _listed(1), version=1),
        _segment(_listed(1), _listed(1), version=3),
        _segment(_ranged(10, (5, 4)), _listed(1)),
        _segment(_ranged(10, (5, 11)), _listed(1)),
        _segment(_ranged(10, (0, 3)), _listed(1)),
        _segment(f"{65535:016b}0", "0"),
        _segment(f"{65535:016b}1{4095:012b}", "0"),
    ],
)
def test_malformed_strings_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"consent string|base64url"):
        decode_consent(text)


def test_every_truncation_before_the_last_vendor_field_is_refused() -> None:
    data = decode_base64url(_segment(_ranged(30, (3, 3), (20, 22)), _ranged(30, (1, 29))))
    assert decode_consent(encode_base64url(data)).permits(21, PURPOSES)
    for size in range(len(data)):
        with pytest.raises(ValueError, match="consent string"):
            decode_consent(encode_base64url(data[:size]))


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_raise_value_error(data: bytes) -> None:
    try:
        consent = decode_consent(encode_base64url(b"\x08" + data))
    except ValueError:
        return
    assert consent.purpose_consents <= set(range(1, 25))
