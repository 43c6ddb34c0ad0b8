"""Packed salts and opt-outs against plain models."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.bulk.mapping import MapOptions, MapRequestError, Problem, Shape, map_request
from uid2.bulk.tables import OptOutIndex, OptOutView, SaltTable, build_optout_index, empty_index, pack_salts
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds, FirstLevelHash, IdentityScope
from uid2.protocol.optout_log import OptOutEntry, encode_entry, end_entry, start_entry
from uid2.protocol.salts import (
    KeyMaterial,
    SaltBucket,
    SaltMetadata,
    format_salt_line,
    parse_salt_line,
    split_salt_lines,
)

METADATA = SaltMetadata(1, 0, "first-level-salt", "b", "HF6Qz42HBbVHINxhh191dB09BCuTWyBkNtrNicO4ZCw=", ())
NOW = EpochMillis(1_806_364_900_000)
OPTIONS = MapOptions(IdentityScope.UID2, Environment.TEST, False, True, NOW)

exact_salts = st.binary(min_size=32, max_size=32).map(encode_base64)
odd_texts = st.text("abcXYZ019+/=-_é ", min_size=1, max_size=50).map(str.strip).filter(bool)
salts = st.none() | exact_salts | odd_texts
keys = st.none() | st.builds(
    KeyMaterial,
    st.integers(0, (1 << 24) - 1),
    st.binary(min_size=24, max_size=24).map(encode_base64) | odd_texts,
    st.none() | exact_salts | odd_texts,
)
buckets = st.builds(
    SaltBucket,
    st.integers(0, (1 << 31) - 1),
    st.integers(-(1 << 62), 1 << 62) | st.integers(0, 1 << 47),
    salts,
    st.integers(-(1 << 62), 1 << 62) | st.integers(0, 1 << 47),
    salts,
    keys,
    keys,
)


def table_of(rows: list[SaltBucket]) -> SaltTable:
    return SaltTable(pack_salts([format_salt_line(row).encode() for row in rows], METADATA))


@given(st.lists(buckets, max_size=8))
def test_every_row_comes_back_as_it_was(rows: list[SaltBucket]) -> None:
    table = table_of(rows)
    assert [table.bucket(index) for index in range(table.size)] == rows


@pytest.mark.parametrize(("key", "limit"), [(None, 96), (KeyMaterial(7, encode_base64(bytes(24)), None), 144)])
def test_bytes_per_bucket(key: KeyMaterial | None, limit: int) -> None:
    rows = [
        SaltBucket(number, NOW, encode_base64(number.to_bytes(32)), NOW, encode_base64(bytes(32)), None, None)
        for number in range(1000)
    ]
    if key is not None:
        material = KeyMaterial(key.id, key.key, encode_base64(bytes(32)))
        rows = [SaltBucket(row.id, NOW, None, NOW, None, material, material) for row in rows]
    assert len(table_of(rows).buffer) <= limit * len(rows) + 1024


@given(st.data())
def test_a_table_cut_short_is_refused(data: st.DataObject) -> None:
    whole = pack_salts([b"1,2,abc,4,,,,,,,", b"2,2,abd,4,,,,,,,"], METADATA)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(StoreFormatError):
        SaltTable(whole[:length])


def test_a_broken_line_is_named() -> None:
    with pytest.raises(StoreFormatError, match="Trouble parsing Salt Entry, line number: 1"):
        pack_salts([b"1,2,abc,4,,,,,,,", b"1,x,abc,4,,,,,,,"], METADATA)


def test_modified_since_is_inclusive() -> None:
    table = table_of([parse_salt_line(f"{number},{number * 10},s,0,,,,,,,", 0) for number in range(5)])
    assert list(table.modified_since(20)) == [2, 3, 4]
    assert table.last_updated_range() == (0, 40)


anything = st.binary(min_size=32, max_size=32).filter(any)
entries = st.builds(
    OptOutEntry,
    st.sampled_from([bytes((n,)) * 32 for n in range(1, 9)]) | anything,
    anything | st.binary(min_size=33, max_size=33).map(lambda uid: bytes((uid[0] & 0x14,)) + uid[1:]),
    st.integers(0, 1 << 40).map(EpochSeconds),
)


@given(st.lists(entries, max_size=40))
def test_opt_out_look_ups_agree_with_a_plain_model(
    tmp_path_factory: pytest.TempPathFactory, log: list[OptOutEntry]
) -> None:
    folder = tmp_path_factory.mktemp("optouts")
    files = [folder / "a.dat", folder / "b.dat"]
    half = len(log) // 2
    framed = [start_entry(EpochSeconds(1)), *log[:half], end_entry(EpochSeconds(2))]
    files[0].write_bytes(b"".join(map(encode_entry, framed)))
    files[1].write_bytes(b"".join(map(encode_entry, log[half:])))
    build_optout_index(files, folder / "index", Environment.TEST)
    data = (folder / "index").read_bytes()
    index = OptOutIndex(data)
    assert len(data) <= 48 * len(log) + 64
    view = OptOutView(empty_index(Environment.TEST)).with_entries(
        (entry.identity_hash, entry.advertising_id, entry.timestamp) for entry in log
    )
    for entry in log:
        flh, uid = FirstLevelHash(entry.identity_hash), encode_base64(entry.advertising_id)
        latest = max(other.timestamp for other in log if other.identity_hash == entry.identity_hash)
        earliest = min(other.timestamp for other in log if other.advertising_id == entry.advertising_id)
        for lookup in (index, view):
            assert lookup.timestamp_of_hash(flh) == latest
            assert lookup.timestamp_of_id(uid) == earliest
    for edge in (0, *(entry.timestamp for entry in log)):
        assert index.hashes_before(edge) == len({entry.identity_hash for entry in log if entry.timestamp < edge})
    assert index.timestamp_of_hash(FirstLevelHash(b"\xab" * 32)) == 0
    assert index.timestamp_of_id(encode_base64(bytes(32))) is None
    assert index.timestamp_of_id("not a raw UID") is None
    assert index.timestamp_of_hash(FirstLevelHash(bytes(32))) > 0


@pytest.mark.parametrize(
    ("body", "problem", "member"),
    [
        (b"[]", Problem.INVALID_JSON, ""),
        (b"{", Problem.INVALID_JSON, ""),
        (b"{}", Problem.NO_USABLE_FIELD, ""),
        (b'{"email":["a@b"],"phone":["+12345678901"]}', Problem.NO_USABLE_FIELD, ""),
        (b'{"phone":7,"email":"x"}', Problem.NOT_ARRAY, "email"),
        (b'{"email":["a@b",null]}', Problem.NULL_ELEMENT, "email"),
    ],
)
def test_v2_problems(body: bytes, problem: Problem, member: str) -> None:
    table = table_of([parse_salt_line("1,2,abc,4,,,,,,,", 0)])
    with pytest.raises(MapRequestError) as caught:
        map_request(body, Shape.V2, table, OptOutView(empty_index(Environment.TEST)), OPTIONS)
    assert (caught.value.kind, caught.value.field) == (problem, member)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", Problem.EMPTY_REQUEST),
        (b'{"emails":[]}', Problem.BAD_FORMAT),
        (b'{"email":"a@b"}', Problem.BAD_FORMAT),
        (b'{"email":[null]}', Problem.BAD_FORMAT),
        (b'{"email":[["a@b"]]}', Problem.BAD_FORMAT),
    ],
)
def test_v3_problems(body: bytes, problem: Problem) -> None:
    table = table_of([parse_salt_line("1,2,abc,4,,,,,,,", 0)])
    with pytest.raises(MapRequestError) as caught:
        map_request(body, Shape.V3, table, OptOutView(empty_index(Environment.TEST)), OPTIONS)
    assert caught.value.kind is problem


def test_both_shapes_of_one_request() -> None:
    table = table_of([parse_salt_line("1000000,1,salt123,4,,,,,,,", 0)])
    optouts = OptOutView(empty_index(Environment.TEST))
    body = b'{"email":["test@example.com","nobody",7]}'
    v2 = json.loads(map_request(body, Shape.V2, table, optouts, OPTIONS).body)
    uid = "xI45uY4/LwbWyEU53Qs86fqJ4b3fx2JK0cAuoOfJgG4="
    assert v2["body"]["mapped"] == [
        {"identifier": "test@example.com", "advertising_id": uid, "bucket_id": "bKaoveQoPR"}
    ]
    assert [row["identifier"] for row in v2["body"]["unmapped"]] == ["nobody", "7"]
    v3 = json.loads(map_request(body, Shape.V3, table, optouts, OPTIONS).body)
    assert v3["body"]["email"][0]["u"] == uid
    assert v3["body"]["email"][0]["p"] is None
    assert v3["body"]["email"][1] == {"e": "invalid identifier"}
    assert v3["body"]["phone_hash"] == []


def test_salts_that_are_not_canonical_base64_are_kept_as_text() -> None:
    line = "1,5,vgv1BwiNRCW7F3VcNXHlZh+7oHJ4G4gCshbGcVOLnsS=,7,,,,,,,"
    table = SaltTable(pack_salts(split_salt_lines(line.encode()), METADATA))
    assert table.bucket(0) == parse_salt_line(line, 0)
