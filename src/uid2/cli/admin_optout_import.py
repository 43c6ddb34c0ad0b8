"""`uid2 admin optout import`: a list of opt-outs, each sent as an operator sends a logout."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uid2.cli.admin_session import session_of, show_one
from uid2.cli.optout_place import choice_of, say, stack_scopes
from uid2.cli.optout_salts import EnvironmentName, ScopeName, salting_of, stores_of
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import Secret

if TYPE_CHECKING:
    from uid2.client.optout_rows import BadRow, RowReader, Salting
    from uid2.client.tables import Table

SHOWN_PROBLEMS: Final = 20
JOURNAL_SUFFIX: Final = ".imported"


def import_list(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV whose first row names the columns, or Parquet.")],
    service: Annotated[
        str, typer.Option(help="Address of the opt-out service. Default: that of --config or of the stack.")
    ] = "",
    key: Annotated[
        str, typer.Option(envvar="UID2_OPERATOR_KEY", help="Operator key with the role OPTOUT. Default: the stack's.")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Send the good rows although others are bad.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row; send nothing.")] = False,
    journal: Annotated[
        Path | None, typer.Option(help="What is sent already. Default: FILE.imported.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget the journal: send every row once more.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at the same time.")] = 32,
    scope: Annotated[ScopeName | None, typer.Option(help="Identity scope of the operators.")] = None,
    identity_environment: Annotated[
        EnvironmentName | None, typer.Option(help="Environment in raw UIDs of version 4.")
    ] = None,
    identity_v3: Annotated[
        bool, typer.Option("--identity-v3", help="The operators make raw UIDs of version 3.")
    ] = False,
) -> None:
    """Import opt-outs: columns email, phone, email_hash, phone_hash, or identity_hash with advertising_id."""
    reading = _Reading(context, file, scope, identity_environment, identity_v3=identity_v3)
    rows, bad = reading.check()
    if bad and not skip_bad and not (dry_run or session_of(context).dry_run):
        raise ConfigurationError(
            f"{bad} of {rows + bad} opt-outs cannot be imported; nothing was sent",
            next_step="repair the rows, or leave them out with --skip-bad",
        )
    if dry_run or session_of(context).dry_run:
        show_one(context, {"good": rows, "bad": bad, "sent": 0})
        if bad:
            raise typer.Exit(1)
        return
    _send(context, reading, service, key, journal or file.with_name(file.name + JOURNAL_SUFFIX), concurrency, again)


class _Reading:
    """Reads the list as often as it is needed; salts are loaded once."""

    def __init__(
        self,
        context: typer.Context,
        file: Path,
        scope: ScopeName | None,
        environment: EnvironmentName | None,
        *,
        identity_v3: bool,
    ) -> None:
        self._context = context
        self._file = file
        self._options = (scope, environment, identity_v3)
        self._reader: RowReader | None = None

    @contextlib.contextmanager
    def opened(self, title: str) -> "Iterator[tuple[RowReader, Table, Callable[[int], None]]]":
        """Reader, table, and what advances the bar by a number of opt-outs."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        from uid2.client.optout_rows import RowReader
        from uid2.client.tables import open_table

        console = Console(stderr=True)
        count = TextColumn("{task.fields[rows]:,} opt-outs")
        shown = (TextColumn(title), BarColumn(), TaskProgressColumn(), count, TimeRemainingColumn())
        with (
            open_table(self._file) as table,
            Progress(*shown, console=console, disable=not console.is_terminal) as progress,
        ):
            task = progress.add_task(title, total=table.size, rows=0)
            done = 0

            def advance(rows: int) -> None:
                nonlocal done
                done += rows
                progress.update(task, completed=table.position(), rows=done)

            self._reader = self._reader or RowReader(table.columns, self._salting)
            yield self._reader, table, advance

    def check(self) -> tuple[int, int]:
        """Numbers of good and of bad opt-outs; the first bad ones are said."""
        from uid2.client.optout_rows import BadRow

        good = bad = 0
        with self.opened("checking") as (reader, table, advance):
            for row in reader.read(table):
                if isinstance(row, BadRow):
                    bad += 1
                    _complain(row, bad)
                else:
                    good += 1
                if (good + bad) % 1000 == 0:
                    advance(1000)
        return good, bad

    def _salting(self) -> "Salting":
        scope, environment, identity_v3 = self._options
        return salting_of(stores_of(self._context), scope, environment, identity_v3=identity_v3)


def _send(
    context: typer.Context,
    reading: _Reading,
    service: str,
    key: str,
    journal: Path,
    concurrency: int,
    again: bool,
) -> None:
    import asyncio

    from uid2.client.import_journal import ImportJournal
    from uid2.client.optout_import import OptOutImport

    address, operator_key = _target(context, service, key)
    if again:
        journal.unlink(missing_ok=True)
    with ImportJournal(journal, address) as kept, reading.opened("sending") as (reader, table, advance):
        work = OptOutImport(address, operator_key, kept, concurrency=concurrency)
        try:
            asyncio.run(work.run(reader.read(table), advance))
        finally:
            counts = work.counts
            refused = sum(counts.refused.values())
            show_one(context, {"sent": counts.sent, "repeated": counts.repeated, "refused": refused})
            for reason, count in counts.refused.most_common():
                say(f"refused {count}: {reason}")
    if refused:
        raise typer.Exit(1)


def _target(context: typer.Context, service: str, key: str) -> tuple[str, Secret]:
    choice = choice_of(context)
    if not service:
        service = choice.place().service or ""
    if not service:
        raise ConfigurationError("no opt-out service is named", next_step="give --service URL, or --config FILE")
    if not key:
        key = _stack_key(choice.state) if not choice.config and not choice.bucket else ""
    if not key:
        raise ConfigurationError("no operator key is given", next_step="give --key, or set UID2_OPERATOR_KEY")
    return service.rstrip("/"), Secret(key.encode())


def _stack_key(state: Path) -> str:
    """The key of the development stack's first operator."""
    import msgspec

    from uid2.devstack.demo_programs import ProgramKeys
    from uid2.devstack.state import PROGRAMS

    for scope in stack_scopes(state):
        file = state / f"stores-{scope}" / PROGRAMS
        if file.exists():
            return msgspec.json.decode(file.read_bytes(), type=ProgramKeys).operators[0]
    return ""


def _complain(row: "BadRow", number: int) -> None:
    if number <= SHOWN_PROBLEMS:
        say(f"row {row.number}: {row.why}")
    elif number == SHOWN_PROBLEMS + 1:
        say("and more …")
