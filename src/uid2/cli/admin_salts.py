"""`uid2 admin salt …`."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, look, show_list, show_one
from uid2.protocol.ids import EpochMillis

if TYPE_CHECKING:
    from uid2.admin.salt_store import Snapshot

app = typer.Typer(help="Salt snapshots and their rotation.", no_args_is_help=True)


@app.command("snapshots")
def list_snapshots(context: typer.Context) -> None:
    """List the snapshots that have not expired."""
    from uid2.admin.salt_store import snapshots

    show_list(context, map(_row, look(context, snapshots)))


@app.command("rotate")
def rotate(
    context: typer.Context,
    fraction: Annotated[str, typer.Option(help="Share of buckets to rotate: 0.0033 or 1/300.")],
    date: Annotated[str | None, typer.Option(help="Day of the snapshot, yyyy-mm-dd. Default: tomorrow, UTC.")] = None,
) -> None:
    """Make the snapshot of a day, some buckets with new salts; it lasts 7 days."""
    from uid2.admin.salt_store import rotate_salts

    share, target = _fraction(fraction), _day(date)
    rotated = change(context, lambda c: rotate_salts(c, target, share))
    show_one(context, {"buckets with new salts": rotated, "effective": _iso(target)})


@app.command("rebuild")
def rebuild(context: typer.Context) -> None:
    """Put the salts in force into a new snapshot that lasts 7 days from now; no bucket changes."""
    from uid2.admin.salt_store import rebuild_salts

    show_one(context, _row(change(context, rebuild_salts)))


def _fraction(text: str) -> Fraction:
    from uid2.admin.errors import RefusedError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise RefusedError("the fraction is no number", next_step="write it as 0.0033 or 1/300") from None


def _day(text: str | None) -> EpochMillis:
    from uid2.admin.errors import RefusedError

    if text is None:
        day = datetime.now(UTC) + timedelta(days=1)
    else:
        try:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise RefusedError("the date is none", next_step="write it as 2026-01-31") from None
    return EpochMillis(int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000)


def _row(snapshot: "Snapshot") -> Row:
    return {
        "effective": _iso(snapshot.effective),
        "expires": _iso(snapshot.expires),
        "salts": snapshot.salts,
        "oldest update": _iso(snapshot.oldest_update),
        "newest update": _iso(snapshot.newest_update),
        "file": snapshot.location,
    }


def _iso(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")
