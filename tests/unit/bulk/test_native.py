"""The native engine against the reference, which is the definition of every answer."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uid2.bulk.engine import Engine, engine_named
from uid2.bulk.mapping import MapOptions, MapRequestError, MapResult, Shape
from uid2.bulk.optout_index import OptOutIndex, empty_index, pack_optout_rows
from uid2.bulk.optout_view import OptOutView
from uid2.bulk.salt_table import SaltTable, pack_salts
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError, StoreFormatError, Uid2Error
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import Environment, EpochMillis, FirstLevelHash, IdentityScope, IdentityType
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.salts import KeyMaterial, SaltBucket, SaltMetadata, format_salt_line

REFERENCE = engine_named("reference")
try:
    NATIVE: Engine | None = engine_named("native")
except ConfigurationError as absent:
    NATIVE = None
    REASON = absent.message
else:
    REASON = ""
pytestmark = pytest.mark.skipif(NATIVE is None, reason=REASON)

METADATA = SaltMetadata(1, 0, "first-level-sält", 'b"\\é', "HF6Qz42HBbVHINxhh191dB09BCuTWyBkNtrNicO4ZCw=", ())
DAY = 86_400_000
NOW = EpochMillis(1_806_364_900_000)

local_parts = st.text("aB1+. é\t", max_size=6)
domains = st.sampled_from(["gmail.com", "GMAIL.com ", "example.com", " x.y", "é.com", "", "a@b", "gmail.com\t"])
emails = st.builds(lambda local, domain: f"{local}@{domain}", local_parts, domains) | st.text(max_size=8)
phones = st.from_regex(r"\+[0-9]{9,16}", fullmatch=True) | st.sampled_from(
    ["+1234567890\n", "12345678901", "+１２３４５６７８９０１"]
)
hashes = (
    st.binary(min_size=30, max_size=34).map(encode_base64)
    | st.binary(min_size=31, max_size=33).map(bytes.hex)
    | st.text("ABab09+/=-", min_size=42, max_size=46)
    | st.text("0123456789abcdefABCDEFg", min_size=63, max_size=65)
    | st.sampled_from(["é" * 44, "é" * 22, "=" * 44, "A" * 43 + "=", "A" * 42 + "==", "A" * 44, "B" * 43 + "="])
)
scalars = st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
rare = (
    scalars
    | st.none()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), scalars, max_size=2)
)


def elements(common: st.SearchStrategy[str]) -> st.SearchStrategy[list[Any]]:
    return (
        st.lists(common, max_size=12)
        | st.lists(common | emails | scalars, max_size=6)
        | st.lists(common | rare, max_size=4)
    )


members = st.fixed_dictionaries(
    {},
    optional={
        "email": elements(emails) | st.none(),
        "email_hash": elements(hashes),
        "phone": elements(phones) | scalars,
        "phone_hash": elements(hashes),
    },
)
requests = members | st.one_of(
    elements(emails).map(lambda e: {"email": e}),
    elements(phones).map(lambda e: {"phone": e}),
    elements(hashes).map(lambda e: {"email_hash": e}),
    st.builds(lambda m, v: m | {"other": v}, members, rare),
)

exact = st.binary(min_size=32, max_size=32).map(encode_base64)
odd = st.text("abcXYZ019+/=-_é\x1f\xa0", min_size=1, max_size=50).map(str.strip).filter(bool)
salts = st.none() | exact | exact | odd
keys = st.none() | st.builds(
    KeyMaterial,
    st.integers(0, (1 << 24) - 1),
    st.binary(min_size=24, max_size=24).map(encode_base64) | st.text("k", min_size=16, max_size=16) | odd,
    st.none() | exact | exact | odd,
)
times = st.integers(NOW - 95 * DAY, NOW + 5 * DAY) | st.integers(-(1 << 62), 1 << 62)
buckets = st.builds(SaltBucket, st.integers(0, (1 << 31) - 1), times, salts, times, salts, keys, keys)
plain_buckets = st.builds(SaltBucket, st.integers(0, (1 << 31) - 1), times, exact, times, st.none() | exact)
tables = st.lists(plain_buckets, min_size=1, max_size=9) | st.lists(buckets, min_size=1, max_size=5)
entries = st.tuples(
    st.sampled_from([bytes((n,)) * 32 for n in (0, 1, 2, 255)]) | st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=33),
    st.integers(0, 1 << 40),
)
options = st.builds(
    MapOptions,
    st.sampled_from(IdentityScope),
    st.sampled_from(Environment),
    st.booleans(),
    st.booleans(),
    st.just(NOW) | times.filter(lambda now: abs(now) < 1 << 60),
)


def native() -> Engine:
    assert NATIVE is not None
    return NATIVE


def salt_file(rows: list[SaltBucket]) -> bytes:
    return b"".join(format_salt_line(row).encode() + b"\n" for row in rows)


def table_of(rows: list[SaltBucket]) -> SaltTable:
    return SaltTable(pack_salts(salt_file(rows).splitlines(), METADATA))


def no_optouts() -> OptOutView:
    return OptOutView(empty_index(Environment.TEST))


def outcome(engine: Engine, *request: Any) -> tuple[object, ...]:
    try:
        result: MapResult = engine.map_request(*request)
    except MapRequestError as error:
        return error.kind, error.field, error.position
    except Uid2Error as error:
        return type(error), error.message
    return result.body, result.counts, result.versions


def first_level_hashes(document: dict[str, Any]) -> list[tuple[IdentityType, FirstLevelHash]]:
    found = []
    for kind in InputKind:
        values = document.get(kind.value)
        for text in values if isinstance(values, list) else []:
            identity_hash = identity_hash_from(kind, text) if isinstance(text, str) else None
            if identity_hash is not None:
                found.append((kind.identity_type, first_level_hash(identity_hash, METADATA.first_level)))
    return found


@given(st.data(), requests, tables, options, st.sampled_from(Shape))
@settings(max_examples=400, deadline=None)
def test_requests(
    data: st.DataObject, document: dict[str, Any], rows: list[SaltBucket], asked: MapOptions, shape: Shape
) -> None:
    known = first_level_hashes(document)
    chosen = st.lists(st.sampled_from(known), max_size=3) if known else st.just([])
    asked = MapOptions(
        *(asked.scope, asked.environment, asked.identity_v3, asked.phone_support, asked.now),
        frozenset(data.draw(chosen)),
        frozenset(data.draw(chosen)),
    )
    noise = data.draw(st.lists(entries, max_size=5))
    base = [(flh, bytes(32), 5) for _, flh in data.draw(chosen)] + noise
    fresh = [(flh, bytes(32), seconds) for seconds, (_, flh) in enumerate(data.draw(chosen))]
    indexed = OptOutView(empty_index(Environment.TEST)).with_entries(base * 60).overlay.indices
    view = OptOutView(indexed[0] if indexed else empty_index(Environment.TEST)).with_entries(fresh)
    body = json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode()
    request = (body, shape, table_of(rows), view, asked)
    assert outcome(native(), *request) == outcome(REFERENCE, *request)


fragments = st.sampled_from(
    [
        *(b'{}[],:"'.decode()),
        *(
            '"email"',
            '"phone"',
            '"email_hash"',
            '"\\u0065mail"',
            '"a@b"',
            '"a\\"@b"',
            '"\\ud83d\\ude00@x"',
            '"\\ud83d"',
        ),
        *(
            '"\\udc00"',
            '"\\u00g0"',
            '"\\x"',
            '"\t"',
            "null",
            "true",
            "false",
            "nul",
            "NaN",
            "-",
            "-0",
            "01",
            "1.",
            "1.5",
        ),
        *(
            "1e5",
            "1e999",
            "-1E-999",
            "9" * 18,
            "9" * 19,
            "1" * 400,
            "0.1e-5",
            ".5",
            "//x\n",
            "/*x*/",
            "/*",
            "//",
            "\n",
            " ",
        ),
        *("\ufeff", "\x00", "\u2028", '"email":["a@b"]', '{"email":["a@b",1,2.5]}', '"//"', '"/*"', "[" * 90, "]" * 90),
    ]
)
OPTIONS = MapOptions(IdentityScope.UID2, Environment.TEST, False, True, NOW)
TABLE = table_of([SaltBucket(7, NOW, encode_base64(bytes(32)), NOW)])


def agree(body: bytes) -> None:
    for shape in Shape:
        request = (body, shape, TABLE, no_optouts(), OPTIONS)
        assert outcome(native(), *request) == outcome(REFERENCE, *request), body


@given(st.lists(fragments, max_size=12).map("".join))
@settings(max_examples=1500, deadline=None)
def test_texts_made_of_json_fragments(text: str) -> None:
    agree(text.encode("utf-8", "surrogatepass"))
    agree(f'{{"email":["a@b"]{text}}}'.encode("utf-8", "surrogatepass"))
    agree(f'{{"email":[{text}]}}'.encode("utf-8", "surrogatepass"))
    agree(f'{{"email":["a@b"],"x":{text}}}'.encode("utf-8", "surrogatepass"))


WHOLE = (
    '{ "email" : ["a@b", "Ü\\n\\u00e9@x.y" /* c */ ,"", 12,-7, true] , // d\n'
    ' "phone" : [] , "email" : null, "phone_hash":["é"]}'
)


@given(st.data())
@settings(max_examples=800, deadline=None)
def test_requests_with_changed_bytes(data: st.DataObject) -> None:
    body = bytearray(WHOLE.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    agree(bytes(body))


def test_requests_cut_short() -> None:
    body = WHOLE.encode()
    for length in range(len(body) + 1):
        agree(body[:length])


@pytest.mark.parametrize("depth", [50, 99, 100, 101, 126, 127, 128, 129, 400, 100_000])
def test_deep_documents(depth: int) -> None:
    agree(b'{"x":' + b"[" * depth + b"]" * depth + b',"email":["a@b"]}')
    agree(b'{"x":' + b'{"y":' * depth + b"1" + b"}" * depth + b',"x":1,"email":["a@b"]}')


@given(st.lists(buckets, max_size=8) | st.lists(plain_buckets, max_size=8), st.booleans())
@settings(deadline=None)
def test_salt_files_pack_to_the_same_bytes(rows: list[SaltBucket], ended: bool) -> None:
    data = salt_file(rows)
    data = data if ended else data.removesuffix(b"\n")
    assert native().pack_salt_file(data, METADATA) == REFERENCE.pack_salt_file(data, METADATA)


columns = st.text("0159,,,,+- aA=\u00a0\x1f\u3000é", max_size=20) | st.just("1,2,c,4,,,,,,,")


@given(st.lists(columns, max_size=4).map("\n".join) | st.binary(max_size=30).map(lambda b: b.decode("latin-1")))
@settings(max_examples=500, deadline=None)
def test_broken_salt_files_are_refused_alike(text: str) -> None:
    def packed(engine: Engine, data: bytes) -> bytes | str:
        try:
            return engine.pack_salt_file(data, METADATA)
        except StoreFormatError as error:
            return error.message

    for data in (text.encode(), text.encode("latin-1", "replace")):
        assert packed(native(), data) == packed(REFERENCE, data)


@given(tables, times)
@settings(deadline=None)
def test_bucket_lists(rows: list[SaltBucket], since: int) -> None:
    table = table_of(rows)
    for moment in (since, -(1 << 62)):
        assert native().list_buckets(table, moment) == REFERENCE.list_buckets(table, moment)
    assert native().last_updated_range(table) == REFERENCE.last_updated_range(table)
    assert len(json.loads(native().list_buckets(table, -(1 << 62)))) == len(rows)


@given(st.lists(entries, max_size=40), st.sampled_from(Environment))
@settings(deadline=None)
def test_opt_out_indices(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[bytes, bytes, int]], environment: Environment
) -> None:
    folder = tmp_path_factory.mktemp("optouts")
    files = [folder / "a.dat", folder / "b.dat"]
    lines = [flh + uid[-32:] + at.to_bytes(7, "little") + (uid[:1] if len(uid) > 32 else b"\0") for flh, uid, at in log]
    for file, part in zip(files, (lines[: len(lines) // 2], lines), strict=True):
        file.write_bytes(b"".join(part))
    sizes = [engine.build_optout_index(files, folder / engine.name, environment) for engine in (native(), REFERENCE)]
    assert sizes[0] == sizes[1]
    data = (folder / "reference").read_bytes()
    assert (folder / "native").read_bytes() == data
    fast, plain = native().open_optouts(data), REFERENCE.open_optouts(data)
    assert type(fast).of_rows(bytes(plain.rows), environment).buffer == plain.buffer
    others = [REFERENCE.open_optouts(pack_optout_rows(plain.rows[: 40 * (sizes[0] // 3)], environment))]
    wholes = []
    for engine in (native(), REFERENCE):
        engine.build_optout_index(files[:1], folder / "whole", environment, others)
        wholes.append((folder / "whole").read_bytes())
    assert wholes[0] == wholes[1]
    whole = REFERENCE.open_optouts(wholes[0])
    expected = {bytes(others[0].rows[at : at + 40]) for at in range(0, len(others[0].rows), 40)}
    REFERENCE.build_optout_index(files[:1], folder / "first", environment)
    first = REFERENCE.open_optouts((folder / "first").read_bytes())
    expected |= {bytes(first.rows[at : at + 40]) for at in range(0, len(first.rows), 40)}
    assert b"".join(sorted(expected)) == bytes(whole.rows)
    for tolerance in (0, 1 << 39):
        for one, other in ((fast, plain), (native().open_optouts(first.buffer), first)):
            missing = one.missing_rows(bytes(plain.rows), tolerance)
            assert missing == other.missing_rows(plain.rows, tolerance)
            assert len(missing) == 0 or one is not fast
    agree_on_look_ups(fast, plain, log)


def agree_on_look_ups(fast: OptOutIndex, plain: OptOutIndex, log: list[tuple[bytes, bytes, int]]) -> None:
    wanted = [FirstLevelHash(flh) for flh, _, _ in log] + [FirstLevelHash(bytes((n,)) * 32) for n in (0, 7, 255)]
    known = plain.timestamps_of_hashes(wanted)
    assert fast.timestamps_of_hashes(wanted) == known
    assert [fast.timestamp_of_hash(flh) for flh in wanted] == known
    texts = [encode_base64(uid) for _, uid, _ in log] + ["", "x" * 44, "é" * 22, "\ud800" * 44, "A" * 42 + "B="]
    assert fast.timestamps_of_ids(texts) == plain.timestamps_of_ids(texts)
    assert [fast.timestamp_of_id(text) for text in texts] == plain.timestamps_of_ids(texts)
    for seconds in (-1, 0, 1, 1 << 39, *(at for _, _, at in log[:20])):
        assert fast.hashes_before(seconds) == plain.hashes_before(seconds)


@pytest.mark.parametrize(("spread", "leading"), [(256, 2), (3, 2), (2, 12)])
def test_many_opt_outs(tmp_path: Path, spread: int, leading: int) -> None:
    """Evenly spread keys, and keys that gather in a few places."""
    draw = random.Random(spread)

    def value() -> bytes:
        return bytes(draw.randrange(spread) for _ in range(leading)) + draw.randbytes(32 - leading)

    log = [
        (value(), value() if draw.random() < 0.5 else b"\x04" + value(), draw.randrange(1 << 40)) for _ in range(20_000)
    ]
    file = tmp_path / "log.dat"
    lines = [flh + uid[-32:] + at.to_bytes(7, "little") + (b"\x44" if len(uid) > 32 else b"\0") for flh, uid, at in log]
    file.write_bytes(b"".join(lines))
    for engine in (native(), REFERENCE):
        assert engine.build_optout_index([file], tmp_path / engine.name, Environment.TEST) == len(log)
    data = (tmp_path / "reference").read_bytes()
    assert (tmp_path / "native").read_bytes() == data
    absent = [(value(), value(), 0) for _ in range(500)]
    agree_on_look_ups(native().open_optouts(data), REFERENCE.open_optouts(data), log[:1500] + absent)


@pytest.mark.parametrize("place", [0, 319])
def test_a_row_number_beyond_the_rows_is_an_error(place: int) -> None:
    whole = bytearray(sample_index().buffer)
    count = (len(whole) - 32) // 44
    at = 32 + 40 * count + 4 * (place % count)
    whole[at : at + 4] = b"\xff" * 4
    texts = [encode_base64(bytes((n,)) * 32) for n in range(1, 9)]
    for engine in (native(), REFERENCE):
        with pytest.raises(StoreFormatError, match="damaged"):
            engine.open_optouts(bytes(whole)).timestamps_of_ids(texts)


def test_a_log_of_a_wrong_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "whole.dat").write_bytes(bytes(144))
    (tmp_path / "cut.dat").write_bytes(bytes(100))
    texts = []
    for engine in (native(), REFERENCE):
        with pytest.raises(StoreFormatError) as caught:
            engine.build_optout_index(
                [tmp_path / "whole.dat", tmp_path / "cut.dat"], tmp_path / "out", Environment.TEST
            )
        texts.append(caught.value.message)
        with pytest.raises(FileNotFoundError):
            engine.build_optout_index([tmp_path / "absent.dat"], tmp_path / "out", Environment.TEST)
    assert texts[0] == texts[1]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_tables_never_crash(data: st.DataObject) -> None:
    uid2_native = pytest.importorskip("uid2_native")
    rows = [SaltBucket(n, NOW, f"odd {n}" if n % 2 else encode_base64(bytes(32)), NOW, "odd") for n in range(4)]
    whole = bytearray(data.draw(st.sampled_from([table_of(rows).buffer, sample_index().buffer])))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))])
    try:
        salts_handle = uid2_native.SaltTable(cut, "f", "p", "s")
    except ValueError:
        pass
    else:
        salts_handle.list_buckets(0)
        salts_handle.last_updated_range()
        emails = json.dumps({"email": [f"{n}@b.c" for n in range(20)]}).encode()
        uid2_native.map_request(emails, True, salts_handle, [], b"", b"", b"", 0, 0, False, True, NOW)
    try:
        index = uid2_native.OptOutIndex(cut)
        index.timestamps_of_ids([encode_base64(bytes((n,)) * 32) for n in range(9)])
        index.timestamps_of_hashes(b"".join(bytes((n,)) * 32 for n in range(9)))
    except ValueError:
        pass


def sample_index() -> OptOutIndex:
    log = [(bytes((n,)) * 32, bytes((n,)) * 32, n) for n in range(1, 9)] * 40
    return OptOutView(empty_index(Environment.TEST)).with_entries(log).overlay.indices[0]
