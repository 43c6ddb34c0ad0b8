"""What every `uid2 admin` command shares: the store, the way a change is made, and how results are shown."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from uid2.protocol.ids import EpochMillis, Role

if TYPE_CHECKING:
    from uid2.admin.change import Change
    from uid2.admin.transaction import Outcome, Universe

T = TypeVar("T")
Row = Mapping[str, object]
STORE_VARIABLE: Final = "UID2_STORE"


@dataclass(frozen=True, slots=True)
class Session:
    """`store` is a URL or a folder."""

    store: str
    as_json: bool
    dry_run: bool

    def universe(self) -> "Universe":
        from uid2.admin.folder import open_folder
        from uid2.admin.transaction import Universe

        return Universe(open_folder(self.store), lambda: EpochMillis(time.time_ns() // 1_000_000), os.urandom)


def session_of(context: typer.Context) -> Session:
    found = context.find_object(Session)
    assert found is not None, "the callback of `uid2 admin` makes it"
    return found


def look(context: typer.Context, operation: "Callable[[Change], T]") -> T:
    """What an operation sees; nothing is written."""
    return session_of(context).universe().look(operation)


def change(context: typer.Context, operation: "Callable[[Change], T]") -> T:
    """Make the change and say on standard error what was written."""
    session = session_of(context)
    outcome = session.universe().run(operation, dry_run=session.dry_run)
    _report(outcome)
    return outcome.result


def show_one(context: typer.Context, row: Row) -> None:
    if session_of(context).as_json:
        print(json.dumps(row))
        return
    width = max(map(len, row))
    for name, value in row.items():
        print(f"{name:<{width}}  {_text(value)}")


def show_list(context: typer.Context, rows: Iterable[Row]) -> None:
    listed = list(rows)
    if session_of(context).as_json:
        print(json.dumps(listed))
        return
    if not listed:
        print("none")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in listed[0]:
        table.add_column(name, overflow="fold")
    for row in listed:
        table.add_row(*map(_text, row.values()))
    # A pipe gets lines that are not folded.
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def roles_of(texts: str) -> list[Role]:
    """Roles of a comma-separated list. RefusedError names what is none."""
    from uid2.admin.errors import RefusedError

    names = [text.strip().upper() for text in texts.split(",") if text.strip()]
    unknown = [name for name in names if name not in Role.__members__ or name == "UNKNOWN"]
    if unknown:
        raise RefusedError(f"unknown role: {', '.join(unknown)}", next_step="roles are names such as GENERATOR,MAPPER")
    return [Role(name) for name in names]


def words_of(texts: str) -> list[str]:
    return [text.strip() for text in texts.split(",") if text.strip()]


def ids_of(texts: str) -> list[int]:
    from uid2.admin.errors import RefusedError

    try:
        return [int(text) for text in words_of(texts)]
    except ValueError:
        raise RefusedError("site ids are whole numbers, separated by commas") from None


def _report(outcome: "Outcome[Any]") -> None:
    if not outcome.written:
        print("nothing to change", file=sys.stderr)
        return
    verb = "would write" if outcome.dry_run else "wrote"
    for item in outcome.written:
        counts = "" if item.entries is None else f", {item.entries[0]} -> {item.entries[1]} records"
        version = "" if item.version is None else f" version {item.version}"
        print(f"{verb} {item.what}{version}{counts}", file=sys.stderr)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    if value is None or value == "":
        return "-"
    return str(value)
