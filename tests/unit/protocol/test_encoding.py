import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.encoding import decode_base64, decode_base64url, encode_base64, encode_base64url


@given(st.binary())
def test_round_trip_with_and_without_padding(data: bytes) -> None:
    text, url = encode_base64(data), encode_base64url(data)
    assert text == base64.b64encode(data).decode()
    assert "=" not in url
    for form in (text, text.rstrip("="), text.encode(), text.rstrip("=").encode()):
        assert decode_base64(form) == data
    for form in (url, url.encode(), base64.urlsafe_b64encode(data)):
        assert decode_base64url(form) == data


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "A===",
        "AA=",
        "AAA==",
        "AAAA=",
        "====",
        "AA==AAAA",
        "AAA=\n",
        " AAA=",
        "AA A",
        "AA\r\n==",
        "A-_A",
        "ééé=",
        "A\0AA",
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match="not valid base64"):
            decode_base64(form)


@pytest.mark.parametrize("text", ["A+AA", "A/AA", "A", "AA=", "AA\n=", "é"])
def test_malformed_url_text_is_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match="not valid base64url"):
            decode_base64url(form)


def test_trailing_bits_are_not_checked() -> None:
    assert decode_base64("AB==") == b"\0"
    assert decode_base64url("AB") == b"\0"


@given(st.text(max_size=12))
def test_any_text_decodes_or_raises_value_error(text: str) -> None:
    try:
        data = decode_base64(text)
    except ValueError:
        return
    assert len(data) == len(text.rstrip("=")) * 3 // 4
