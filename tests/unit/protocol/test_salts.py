import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import (
    KeyMaterial,
    SaltBucket,
    check_salt_count,
    encode_salt_metadata,
    format_salt_line,
    parse_salt_line,
    parse_salt_lines,
    parse_salt_metadata,
    select_snapshot,
)

STORES = Path(__file__).parents[2] / "vectors" / "stores"
NOW = EpochMillis(1_763_000_000_000)
WORDS = st.text("abcXYZ019+/=", min_size=1, max_size=44)
MATERIAL = st.builds(KeyMaterial, st.integers(0, 0xFFFFFF), WORDS, st.none() | WORDS)
TIMES = st.integers(0, 2**63 - 1).map(EpochMillis)
BUCKETS = st.builds(
    SaltBucket,
    st.integers(0, 2**31 - 1),
    TIMES,
    st.none() | WORDS,
    TIMES,
    st.none() | WORDS,
    st.none() | MATERIAL,
    st.none() | MATERIAL,
)


@pytest.mark.parametrize("folder", ["salts", "operator-mock/salts"])
def test_sample_snapshots(folder: str) -> None:
    metadata = parse_salt_metadata((STORES / folder / "metadata.json").read_bytes(), NOW)
    for entry in metadata.salts:
        data = (STORES / folder / entry.location.rsplit("/", 1)[-1]).read_bytes()
        buckets = list(parse_salt_lines(data))
        check_salt_count(len(buckets), entry)
        assert "\n".join(map(format_salt_line, buckets)) == data.decode().rstrip("\n")
    assert parse_salt_metadata(encode_salt_metadata(metadata), NOW) == metadata


@given(BUCKETS)
def test_lines_round_trip(bucket: SaltBucket) -> None:
    assert parse_salt_line(format_salt_line(bucket), 0) == bucket


@pytest.mark.parametrize(
    ("line", "current", "previous"),
    [
        ("1,2,salt,3,old,,,,", None, None),
        ("1,2,salt,3,,5,key,,", KeyMaterial(5, "key", None), None),
        ("1,2, salt ,3, , 5 , key ,saline,,", KeyMaterial(5, "key", "saline"), None),
        ("1,2,salt,3,,5,,saline,6,,", None, None),
        ("1,2,salt,3,,5,key,saline,6,old,brine,more", KeyMaterial(5, "key", "saline"), KeyMaterial(6, "old", "brine")),
    ],
)
def test_accepted_layouts(line: str, current: KeyMaterial | None, previous: KeyMaterial | None) -> None:
    bucket = parse_salt_line(line, 0)
    assert (bucket.current_salt, bucket.current_key, bucket.previous_key) == ("salt", current, previous)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1,2,salt",
        "1,2,salt,3",
        "1,2,salt,3,old",
        "1,2,salt,3,old,5,key,saline",
        "x,2,salt,3,old,,,,",
        "1,,salt,3,old,,,,",
        "1,2,salt,,old,,,,",
        "-1,2,salt,3,old,,,,",
        "2147483648,2,salt,3,old,,,,",
        "1,9223372036854775808,salt,3,old,,,,",
        "1_0,2,salt,3,old,,,,",
        "١,2,salt,3,old,,,,",
        "1,2,salt,3,old,x,key,saline,,,",
        "1,2,salt,3,old,16777216,key,saline,,,",
        "1,2,salt,3,old,,,,6,key",
    ],
)
def test_broken_lines_name_their_number(line: str) -> None:
    with pytest.raises(StoreFormatError, match=r"^Trouble parsing Salt Entry, line number: 1:") as raised:
        list(parse_salt_lines(f"1,2,salt,3,,,,,,,\n{line}\n".encode()))
    assert raised.value.record == "1"


def test_rows_must_match_the_metadata() -> None:
    metadata = parse_salt_metadata((STORES / "salts" / "metadata.json").read_bytes(), NOW)
    for found in (1, 3):
        with pytest.raises(StoreFormatError, match="rows"):
            check_salt_count(found, metadata.salts[0])


@pytest.mark.parametrize(
    "change",
    [
        {"version": None}, {"first_level": 5}, {"id_prefix": None}, {"id_secret": None}, {"salts": []},
        {"salts": [{"location": "x", "size": 2}]}, {"salts": [{"effective": 1, "location": "x"}]},
        {"salts": [{"effective": 1, "location": "x", "size": 0}]}, {"salts": [5]},
    ],
)  # fmt: skip
def test_broken_metadata(change: dict[str, object]) -> None:
    document = json.loads((STORES / "salts" / "metadata.json").read_bytes())
    with pytest.raises(StoreFormatError):
        parse_salt_metadata(json.dumps({**document, **change}).encode(), NOW)


def test_a_snapshot_without_an_end_lasts_a_year() -> None:
    document = json.loads((STORES / "salts" / "metadata.json").read_bytes())
    del document["salts"][0]["expires"]
    assert parse_salt_metadata(json.dumps(document).encode(), NOW).salts[0].expires == NOW + 365 * 86_400_000


@dataclass(frozen=True)
class Span:
    effective: EpochMillis
    expires: EpochMillis


@pytest.mark.parametrize(
    ("spans", "at", "expected"),
    [
        ([(10, 20)], 10, 0),
        ([(10, 20)], 5, 0),
        ([(10, 20)], 20, 0),
        ([(10, 30), (20, 40)], 15, 0),
        ([(10, 30), (20, 40)], 20, 1),
        ([(10, 30), (20, 40), (50, 60)], 25, 1),
        ([(10, 20), (15, 60), (70, 90)], 30, 2),
        ([(10, 20), (30, 40)], 5, 1),
    ],
)
def test_snapshot_choice(spans: list[tuple[int, int]], at: int, expected: int) -> None:
    listed = [Span(EpochMillis(start), EpochMillis(end)) for start, end in spans]
    assert select_snapshot(listed, EpochMillis(at)) is listed[expected]
