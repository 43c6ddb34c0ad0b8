"""`uid2 admin cloud-key …` and `uid2 admin files …`: per-site files and the keys they are encrypted with."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from uid2.cli.admin_session import Row, change, look, show_list, show_one

if TYPE_CHECKING:
    from uid2.protocol.cloud_keys import CloudKey

app = typer.Typer(help="Files that are made for single sites.", no_args_is_help=True)
cloud_keys = typer.Typer(help="Keys that per-site files are encrypted with.", no_args_is_help=True)


@cloud_keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List cloud encryption keys, without their secrets."""
    from uid2.admin.records import CLOUD_KEYS

    show_list(context, _rows(look(context, lambda c: c.records(CLOUD_KEYS))))


@cloud_keys.command("backfill")
def backfill(context: typer.Context) -> None:
    """Make a key for each site that has an operator and no key."""
    from uid2.admin.cloud_keys import backfill_cloud_keys

    show_list(context, _rows(change(context, backfill_cloud_keys)))


@cloud_keys.command("rotate")
def rotate(context: typer.Context) -> None:
    """Make a new key for each site with an operator; it is used from an hour later on."""
    from uid2.admin.cloud_keys import rotate_cloud_keys

    show_list(context, _rows(change(context, rotate_cloud_keys)))


@app.command("refresh-private-sites")
def refresh_private_sites(context: typer.Context) -> None:
    """Write the files of sites with a private operator, where they have changed."""
    from uid2.admin.generated_files import refresh_private_sites

    show_one(context, {"sites": change(context, refresh_private_sites)})


@app.command("sync-encrypted")
def sync_encrypted(context: typer.Context) -> None:
    """Write the encrypted files of every site with an operator, where they have changed."""
    from uid2.admin.generated_files import sync_encrypted_files

    show_one(context, {"scopes": change(context, sync_encrypted_files)})


def _rows(keys: "Iterable[CloudKey]") -> list[Row]:
    return [
        {"id": key.id, "site": key.site_id, "activates": _iso(key.activates), "created": _iso(key.created)}
        for key in keys
    ]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
