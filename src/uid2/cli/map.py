"""`uid2 map`: raw UIDs for every row of a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from uid2.cli.target import DEFAULT_STATE, KeyOption, SecretOption, StateOption, UrlOption, operator_client


class Kind(StrEnum):
    EMAIL = "email"
    EMAIL_HASH = "email_hash"
    PHONE = "phone"
    PHONE_HASH = "phone_hash"


def map_file(
    file: Annotated[Path, typer.Argument(help="CSV whose first row names the columns, or Parquet.")],
    output: Annotated[
        Path | None, typer.Option(help="CSV to write. Default: FILE with .mapped.csv.", show_default=False)
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Name or number (from 1) of the identity column.", show_default=False)
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="What the column holds, when its name does not say.", show_default=False)
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    secret: SecretOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Map the identities of a file; the result is the file with raw UIDs and reasons added as columns."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from uid2.client.mapping import map_table
    from uid2.client.tables import find_column, open_table
    from uid2.protocol.normalize import InputKind

    target = output or file.with_suffix(".mapped.csv")
    console = Console(stderr=True)
    shown = (
        TextColumn("mapping"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with (
        open_table(file) as table,
        operator_client(url, key, secret, state) as client,
        Progress(*shown, console=console, disable=not console.is_terminal) as progress,
    ):
        index, input_kind = find_column(table, column, None if kind is None else InputKind(kind.value))
        task = progress.add_task("map", total=table.size, rows=0)
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress.update(task, completed=table.position(), rows=done)

        counts = map_table(client, table, index, input_kind, target, advance)
    reasons = "".join(f", {count:,} {reason}" for reason, count in sorted(counts.reasons.items()))
    print(f"{counts.rows:,} rows: {counts.mapped:,} mapped{reasons}")
    print(f"written to {target}")
