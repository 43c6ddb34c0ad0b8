import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.client.answers import MappedRow, MapV3
from uid2.client.mapping import ADDED_COLUMNS, BATCH_BYTES, BATCH_ROWS, batches, map_table
from uid2.client.refusal import OperatorRefusalError
from uid2.client.tables import find_column, open_table
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.normalize import InputKind


class EchoMapper:
    """Maps every value to itself reversed, values with an x to opted out."""

    def __init__(self, short: int = 0) -> None:
        self.calls: list[dict[str, list[str]]] = []
        self.short = short

    def map_v3(self, members: dict[str, list[str]]) -> MapV3:
        self.calls.append(members)
        ((field, values),) = members.items()
        rows = [MappedRow(e="optout") if "x" in v else MappedRow(u=v[::-1], r=1_700_000_000) for v in values]
        empty: dict[str, list[MappedRow]] = {kind.value: [] for kind in InputKind}
        return MapV3(**{**empty, field: rows[: len(rows) - self.short]})


def mapped(source: Path, mapper: EchoMapper, column: str | None = None) -> list[dict[str, str]]:
    output = source.with_name("out.csv")
    with open_table(source) as table:
        index, kind = find_column(table, column, None)
        map_table(mapper, table, index, kind, output, lambda _: None)
    with output.open(encoding="utf-8", newline="") as written:
        return list(csv.DictReader(written))


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_are_added_and_rows_keep_their_order(tmp_path: Path) -> None:
    source = written(tmp_path, 'id,Email\n1,a@b\n2,\n3,"x,y@b"\n')

    rows = mapped(source, mapper := EchoMapper())

    assert [row["raw_uid"] for row in rows] == ["b@a", "", ""]
    assert [row["unmapped_reason"] for row in rows] == ["", "blank", "optout"]
    assert rows[0]["refresh_from"] == "2023-11-14T22:13:20Z"
    assert list(rows[0]) == ["id", "Email", *ADDED_COLUMNS]
    assert mapper.calls == [{"email": ["a@b", "x,y@b"]}]


def test_large_tables_go_out_in_batches(tmp_path: Path) -> None:
    source = written(tmp_path, "phone_hash\n" + "".join(f"{n}\n" for n in range(BATCH_ROWS * 2 + 1)))

    rows = mapped(source, mapper := EchoMapper())

    assert [len(call["phone_hash"]) for call in mapper.calls] == [BATCH_ROWS, BATCH_ROWS, 1]
    assert len(rows) == BATCH_ROWS * 2 + 1


@given(st.lists(st.integers(0, 200_000), max_size=40))
def test_batches_hold_every_row_and_stay_below_the_body_limit(sizes: list[int]) -> None:
    rows = [["a" * size] for size in sizes]

    groups = list(batches(rows, 0))

    assert [row for group in groups for row in group] == rows
    assert all(len(g) == 1 or sum(len(row[0]) * 2 + 3 for row in g) <= BATCH_BYTES for g in groups)


def test_a_short_answer_leaves_no_file(tmp_path: Path) -> None:
    source = written(tmp_path, "email\na@b\nc@d\n")

    with pytest.raises(OperatorRefusalError, match="another number of rows"):
        mapped(source, EchoMapper(short=1))

    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"email,name\na@b,x\nc@d\n", "row 3 has 1 columns, the heading has 2"),
        (b"email\na@b\n\xff@c\n", "line 3 is not UTF-8"),
        (b'email\n"a@b\n', "line 2"),
        (b"name,address\nx,y\n", "not clear which column"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path: Path, text: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        mapped(written(tmp_path, text), EchoMapper())

    assert words in refusal.value.message
    assert refusal.value.next_step
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("heading", "column", "kind", "expected"),
    [
        ("id,E-Mail", None, None, (1, InputKind.EMAIL)),
        ("\ufeffemail,id", None, None, (0, InputKind.EMAIL)),
        ("a,b", "2", None, (1, InputKind.EMAIL)),
        ("a,b", "B", InputKind.PHONE, (1, InputKind.PHONE)),
        ("email,phone", None, InputKind.PHONE, (1, InputKind.PHONE)),
        ("whatever", None, None, (0, InputKind.EMAIL)),
        ("Phone Number,x", None, None, (0, InputKind.PHONE)),
        ("email_hash,id", None, None, (0, InputKind.EMAIL_HASH)),
    ],
)
def test_the_identity_column(
    tmp_path: Path, heading: str, column: str | None, kind: InputKind | None, expected: tuple[int, InputKind]
) -> None:
    with open_table(written(tmp_path, heading + "\n")) as table:
        assert find_column(table, column, kind) == expected


@pytest.mark.parametrize("column", ["0", "3", "no such", "-1"])
def test_an_unknown_column_lists_the_known_ones(tmp_path: Path, column: str) -> None:
    with open_table(written(tmp_path, "a,b\n")) as table, pytest.raises(ConfigurationError) as refusal:
        find_column(table, column, None)

    assert "a, b" in refusal.value.next_step


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    source = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2, 3], "email": ["a@b", None, "x@b"]}), source)

    rows = mapped(source, EchoMapper())

    assert [(row["id"], row["raw_uid"], row["unmapped_reason"]) for row in rows] == [
        ("1", "b@a", ""),
        ("2", "", "blank"),
        ("3", "", "optout"),
    ]


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not")

    with pytest.raises(ConfigurationError, match="not a Parquet file"), open_table(tmp_path / "in.parquet"):
        pass
