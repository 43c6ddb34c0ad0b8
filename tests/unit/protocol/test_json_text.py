import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.json_text import MAX_DEPTH, parse_object, parse_value, text_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_objects_round_trip(value: dict[str, Any], ascii_only: bool) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('/* a */{"a"/**/: 1 // end\n}', {"a": 1}),
        ('{"a":"// no /* comment */", /* "b": 2, */ "c": 3}//', {"a": "// no /* comment */", "c": 3}),
        ('{"a":"\\"/*", "b":"*/"}/*x*/', {"a": '"/*', "b": "*/"}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('{"\\ud83d\\ude0a":"\\u0000"}', {"😊": "\0"}),
    ],
)
def test_lenient_forms(text: str, value: dict[str, Any]) -> None:
    assert parse_object(text.encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b"1", b'"a"', b"{} x", b"{", b'{"a":}', b"{'a':1}", b'{"a":1,}', b'{"a":01}',
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":"\xff"}', b'{"\xff":1}',
        b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"a":"\\udc00"}', b'{"a":"\\ud800x"}', b'{"a":1/**/2}',
        b'{"a":1} /* open', b'{"a":"//', b"# comment\n{}", b'{"a":' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}",
        b'{"a":"\n"}', b"\0",
    ],
)  # fmt: skip
def test_malformed_input_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        parse_object(data)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 5_000, 100_000])
def test_deep_nesting_is_a_value_error(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_value(opening * depth + b"1" + closing * depth)


def test_wide_and_allowed_depths_pass() -> None:
    deep = parse_object(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")
    assert text_of(deep["a"]) == "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert len(parse_object(b'{"a":[' + b",".join([b"[]"] * 10_000) + b"]}")["a"]) == 10_000


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_raise_value_error(data: bytes) -> None:
    try:
        value = parse_object(data)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"), (True, "true"), (False, "false"), (None, "null"), (123, "123"), (-(10**30), "-1" + "0" * 30),
        (1.0, "1.0"), (1.5, "1.5"), (0.0, "0.0"), (-0.0, "-0.0"), (1e6, "1000000.0"), (9999999.0, "9999999.0"),
        (1e7, "1.0E7"), (12345678.9, "1.23456789E7"), (1e10, "1.0E10"), (-1.25e20, "-1.25E20"), (0.001, "0.001"),
        (0.00099, "9.9E-4"), (1e-5, "1.0E-5"), (5e-324, "4.9E-324"), (1.7976931348623157e308, "1.7976931348623157E308"),
        (["a@b.c"], "[a@b.c]"), ([1, [True, None], {}], "[1, [true, null], {}]"),
        ({"k": "v", "n": {"m": 1.0}}, "{k=v, n={m=1.0}}"), ([], "[]"),
    ],
)  # fmt: skip
def test_platform_text(value: object, text: str) -> None:
    assert text_of(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_double_text_reads_back(value: float) -> None:
    text = text_of(value)
    assert "." in text
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)


@pytest.mark.parametrize("unit", [b"/* ", b'\\"', b'"\\', b"/*/", b"//\n"])
@pytest.mark.parametrize("end", [b"", b"\\", b'"', b"*/"])
def test_a_million_openings_without_an_end_are_refused_at_once(unit: bytes, end: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        parse_value(b"{//\n" + unit * 1_000_000 + end)
