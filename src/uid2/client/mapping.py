"""Mapping a whole table in batches, each one call of /v3/identity/map."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from uid2.client.answers import MappedRow, MapV3
from uid2.client.refusal import OperatorRefusalError
from uid2.client.tables import Table
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.normalize import InputKind

BATCH_ROWS: Final = 5000
BATCH_BYTES: Final = 900_000
ADDED_COLUMNS: Final = ("raw_uid", "previous_raw_uid", "refresh_from", "unmapped_reason")
BLANK: Final = "blank"


class Mapper(Protocol):
    def map_v3(self, members: dict[str, list[str]]) -> MapV3: ...


@dataclass(slots=True)
class MapCounts:
    """`reasons`: how many rows each reason left unmapped."""

    rows: int = 0
    mapped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def map_table(
    client: Mapper, table: Table, column: int, kind: InputKind, output: Path, advance: Callable[[int], None]
) -> MapCounts:
    """Write the table with ADDED_COLUMNS to `output`, which appears only when every row is done.

    `advance` gets the rows of each finished batch. Blank cells are not sent. Errors: those of the client, and
    ConfigurationError for unreadable rows or when `output` cannot be written.
    """
    counts = MapCounts()
    beside = output.with_name(output.name + ".part")
    try:
        with beside.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([*table.columns, *ADDED_COLUMNS])
            for rows in batches(table.rows, column):
                for row, answer in zip(rows, _answers(client, rows, column, kind), strict=True):
                    writer.writerow([*row, *_cells(answer)])
                    _count(counts, answer)
                advance(len(rows))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(output)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}", next_step="give --output") from None
    finally:
        beside.unlink(missing_ok=True)
    return counts


def batches(rows: Iterable[list[str]], column: int) -> Iterator[list[list[str]]]:
    """Rows in groups that fit one request: BATCH_ROWS rows, BATCH_BYTES of JSON."""
    batch: list[list[str]] = []
    size = 0
    for row in rows:
        cost = len(row[column].encode()) * 2 + 3  # every character may need an escape
        if batch and (len(batch) == BATCH_ROWS or size + cost > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += cost
    if batch:
        yield batch


def _answers(client: Mapper, rows: list[list[str]], column: int, kind: InputKind) -> list[MappedRow]:
    values = [row[column] for row in rows]
    sent = [value for value in values if value.strip()]
    answered: list[MappedRow] = getattr(client.map_v3({kind.value: sent}), kind.value) if sent else []
    if len(answered) != len(sent):
        raise OperatorRefusalError(200, "unknown", "the answer has another number of rows than the request")
    remaining = iter(answered)
    return [next(remaining) if value.strip() else MappedRow(e=BLANK) for value in values]


def _cells(answer: MappedRow) -> tuple[str, str, str, str]:
    if answer.u is None:
        return "", "", "", answer.e or "unknown"
    refresh = "" if answer.r is None else datetime.fromtimestamp(answer.r, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return answer.u, answer.p or "", refresh, ""


def _count(counts: MapCounts, answer: MappedRow) -> None:
    counts.rows += 1
    if answer.u is None:
        counts.reasons[answer.e or "unknown"] += 1
    else:
        counts.mapped += 1
