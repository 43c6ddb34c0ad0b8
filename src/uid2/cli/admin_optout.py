"""`uid2 admin optout …`: the files of the opt-out service. Import and breaker are in the files beside this one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli import admin_optout_breaker, admin_optout_import, admin_optout_lookup
from uid2.cli.admin_session import Row, session_of, show_list, show_one
from uid2.cli.optout_place import OptOutChoice, OptOutPlace, iso, now_seconds, place_of, say
from uid2.cli.target import DEFAULT_STATE

if TYPE_CHECKING:
    from uid2.optout.expired_files import Retention
    from uid2.optout.listing import ListedFile

app = typer.Typer(help="Opt-outs: find, import, check and clean their files; the breaker.", no_args_is_help=True)
app.command("lookup")(admin_optout_lookup.lookup)
app.command("import")(admin_optout_import.import_list)
app.add_typer(admin_optout_breaker.app, name="breaker")

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback()
def options(
    context: typer.Context,
    bucket: Annotated[str, typer.Option(help="Bucket of the opt-out files: file:///…, s3://…, az://…, gs://…")] = "",
    folder: Annotated[str, typer.Option(help="Folder in the bucket. Default: optout/, or what --config says.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Configuration file of the opt-out service.", show_default=False)
    ] = None,
    state: Annotated[
        Path, typer.Option(help="State folder of `uid2 up`, used where neither is given.")
    ] = DEFAULT_STATE,
) -> None:
    """Opt-outs: find, import, check and clean their files; the breaker."""
    context.obj = OptOutChoice(bucket, folder, config, state)


@app.command("list")
def list_files(context: typer.Context) -> None:
    """List the files, oldest first."""
    from uid2.optout.listing import newest_partition

    place = place_of(context)
    files = place.files()
    show_list(context, [_row(place, file) for file in files])
    if not session_of(context).as_json:
        newest = newest_partition(files)
        print(f"{len(files)} files; newest partition: {'none' if newest is None else iso(newest)}")


@app.command("verify")
def verify(context: typer.Context) -> None:
    """Read every file through: names, lengths, order, special entries, times. Ends with 1 after a fault."""
    from uid2.optout.file_checks import check_file, foreign_finding

    place, now = place_of(context), now_seconds()
    files, foreign = place.listing()
    checked = [check_file(place.bucket, file, place.folder, now) for file in files]
    findings = [*map(foreign_finding, foreign), *(finding for file in checked for finding in file.findings)]
    faults = sum(finding.fault for finding in findings)
    rows: list[Row] = [
        {
            "file": finding.path,
            "entry": finding.place,
            "kind": "fault" if finding.fault else "remark",
            "what": finding.what,
        }
        for finding in findings
    ]
    summary = {
        "files": len(checked),
        "entries": sum(file.entries for file in checked),
        "special entries": sum(file.special for file in checked),
        "faults": faults,
        "remarks": len(findings) - faults,
    }
    if session_of(context).as_json:
        show_one(context, {**summary, "findings": rows})
    else:
        if rows:
            show_list(context, rows)
        show_one(context, summary)
    if faults:
        raise typer.Exit(1)


@app.command("gc")
def collect(context: typer.Context, yes: YesOption = False) -> None:
    """Delete deltas past their lifespan, of which partitions hold every opt-out."""
    from uid2.optout.expired_files import find_expired

    place, session = place_of(context), session_of(context)
    expired = find_expired(place.bucket, place.files(), now_seconds(), _retention(place))
    doomed = [delta for delta in expired if delta.kept_because is None]
    rows: list[Row] = [
        {"file": delta.file.path, "entries": delta.entries, "kept because": delta.kept_because} for delta in expired
    ]
    show_list(context, rows)
    if session.dry_run or not doomed:
        say(f"would delete {len(doomed)} of {len(expired)} expired deltas" if expired else "nothing expired")
        return
    if not yes and not typer.confirm(f"Delete {len(doomed)} deltas?", err=True):
        raise typer.Exit(1)
    for delta in doomed:
        place.bucket.delete(delta.file.path)
    say(f"deleted {len(doomed)} deltas, kept {len(expired) - len(doomed)}")


def _retention(place: OptOutPlace) -> "Retention":
    from uid2.optout.expired_files import Retention

    settings = place.settings
    if settings is None:
        return Retention(lifespan=86_400 * 90, rotate_interval=300)
    lifespan = settings.optout_partition_interval * settings.optout_max_partitions
    return Retention(lifespan, settings.optout_delta_rotate_interval)


def _row(place: OptOutPlace, file: "ListedFile") -> Row:
    from uid2.protocol.optout_log import ENTRY_LENGTH

    size = place.bucket.size(file.path)
    return {
        "file": file.path,
        "kind": f"{file.kind}{', synthetic' if file.name.synthetic else ''}",
        "made": iso(file.created),
        "entries": size // ENTRY_LENGTH,
        "bytes": size,
    }
