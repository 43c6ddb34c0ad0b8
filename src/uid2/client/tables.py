"""Tables of identities in files: CSV, and Parquet where pyarrow is installed."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.normalize import InputKind

PARQUET_BATCH: Final = 5000
LARGEST_FIELD: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` yields the cells of each row as text; `position` tells how far reading has come, in units of `size`."""

    columns: list[str]
    rows: Iterator[list[str]]
    size: int
    position: Callable[[], int]


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """A `.parquet` file as Parquet, anything else as CSV whose first row names the columns.

    ConfigurationError names the row (counted from 1, the heading included) that cannot be read.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", next_step="name a CSV file") from None
    with raw:
        yield _parquet_table(raw, path) if path.suffix.lower() in (".parquet", ".pq") else _csv_table(raw, path)


def find_column(table: Table, wanted: str | None, kind: InputKind | None) -> tuple[int, InputKind]:
    """The index of the identity column and what it holds.

    Without `wanted`: the only column, or the only one called like a kind of identity (`email`, `phone_hash`, …).
    Without `kind`: what the column's name says, else e-mail addresses.
    """
    names = [name.strip().lower() for name in table.columns]
    if wanted is None:
        index = _only_candidate(table.columns, names, kind)
    elif wanted.strip().lower() in names:
        index = names.index(wanted.strip().lower())
    elif wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(names):
        index = int(wanted) - 1
    else:
        raise ConfigurationError(
            f"there is no column {wanted!r}", next_step=f"use one of {_listed(table.columns)}, or a number from 1"
        )
    return index, kind or kind_of_column(names[index]) or InputKind.EMAIL


def _only_candidate(columns: Sequence[str], names: Sequence[str], kind: InputKind | None) -> int:
    if len(names) == 1:
        return 0
    candidates = [
        i for i, name in enumerate(names) if kind_of_column(name) is not None and kind in (None, kind_of_column(name))
    ]
    if len(candidates) == 1:
        return candidates[0]
    raise ConfigurationError(
        "it is not clear which column holds the identities", next_step=f"give --column: one of {_listed(columns)}"
    )


def kind_of_column(name: str) -> InputKind | None:
    """What a column of that name holds; `name` in lower case without space around it."""
    plain = name.replace("-", "").replace(" ", "_").removesuffix("_address").removesuffix("_number")
    return next((kind for kind in InputKind if kind.value == plain), None)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20])


def _csv_table(raw: BinaryIO, path: Path) -> Table:
    size = os.fstat(raw.fileno()).st_size
    csv.field_size_limit(LARGEST_FIELD)
    text = (line.decode("utf-8") for line in raw)
    reader = csv.reader(text, strict=True)
    rows = _checked_rows(reader, path)
    try:
        columns = next(rows)
    except StopIteration:
        raise ConfigurationError(f"{path} is empty", next_step="its first row must name the columns") from None
    columns[0] = columns[0].removeprefix("\ufeff")
    return Table(columns, _same_width(rows, len(columns), path), size, raw.tell)


def _checked_rows(reader: Any, path: Path) -> Iterator[list[str]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"{path}, line {reader.line_num + 1} is not UTF-8", next_step="save the file as UTF-8"
            ) from None
        except csv.Error as error:
            raise ConfigurationError(f"{path}, line {reader.line_num}: {error}", next_step="repair the line") from None
        if row:
            yield row


def _same_width(rows: Iterator[list[str]], width: int, path: Path) -> Iterator[list[str]]:
    for number, row in enumerate(rows, start=2):
        if len(row) != width:
            raise ConfigurationError(
                f"{path}, row {number} has {len(row)} columns, the heading has {width}",
                next_step="quote cells that hold commas, or repair the row",
            )
        yield row


def _parquet_table(raw: BinaryIO, path: Path) -> Table:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ConfigurationError(
            "Parquet files need pyarrow, which is not installed",
            next_step="install the extra `parquet` of this package, or convert the file to CSV",
        ) from None
    try:
        file = parquet.ParquetFile(raw)
    except ArrowInvalid:
        raise ConfigurationError(f"{path} is not a Parquet file", next_step="check the file") from None
    done = 0

    def rows() -> Iterator[list[str]]:
        nonlocal done
        for batch in file.iter_batches(PARQUET_BATCH):
            cells = [["" if value is None else str(value) for value in column.to_pylist()] for column in batch.columns]
            for row in zip(*cells, strict=True):
                done += 1
                yield list(row)

    return Table(list(file.schema_arrow.names), rows(), file.metadata.num_rows, lambda: done)
