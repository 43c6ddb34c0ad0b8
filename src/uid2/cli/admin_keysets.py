"""`uid2 admin keyset …` and `uid2 admin key …`: who may read whose keys, and the rotation of those keys."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, ids_of, look, show_list, show_one
from uid2.cli.admin_sites import types_of

if TYPE_CHECKING:
    from uid2.admin.records import AdminKeyset
    from uid2.protocol.keysets import KeysetKey

app = typer.Typer(help="Keysets and sharing lists.", no_args_is_help=True)
keys = typer.Typer(help="Encryption keys and their rotation.", no_args_is_help=True)

Allowed = Annotated[str | None, typer.Option(help="Site ids, separated by commas; `` for nobody; left out: no list.")]
AllowedTypes = Annotated[str, typer.Option(help="Types of sites that may read too, separated by commas.")]
MinAge = Annotated[int, typer.Option(help="Rotate only keys that became active longer ago, in seconds.")]
Force = Annotated[bool, typer.Option("--force", help="Rotate whatever the age.")]


@app.command("list")
def list_keysets(context: typer.Context) -> None:
    """List keysets."""
    from uid2.admin.records import ADMIN_KEYSETS

    show_list(context, map(_row, look(context, lambda c: c.records(ADMIN_KEYSETS))))


@app.command("show")
def show(context: typer.Context, keyset_id: int) -> None:
    """Show one keyset."""
    from uid2.admin.keysets import find_keyset

    show_one(context, _row(look(context, lambda c: find_keyset(c, keyset_id))))


@app.command("set")
def set_one(
    context: typer.Context,
    keyset: Annotated[int | None, typer.Option(help="Keyset to replace.")] = None,
    site: Annotated[int | None, typer.Option(help="Site to make a keyset for.")] = None,
    name: str = "",
    allowed: Allowed = None,
    allowed_types: AllowedTypes = "",
) -> None:
    """Create the keyset of a site, or replace one; a key is added to it."""
    from uid2.admin.keysets import find_keyset, set_keyset

    made = change(
        context,
        lambda c: find_keyset(
            c,
            set_keyset(
                c,
                keyset_id=keyset,
                site_id=site,
                name=name,
                allowed_sites=None if allowed is None else ids_of(allowed),
                allowed_types=types_of(allowed_types),
            ),
        ),
    )
    show_one(context, _row(made))


@app.command("sharing")
def sharing(
    context: typer.Context,
    site: Annotated[int, typer.Argument(help="Site id.")],
    allowed: Allowed = None,
    allowed_types: AllowedTypes = "",
    change_it: Annotated[bool, typer.Option("--set", help="Replace the list instead of showing it.")] = False,
    seen: Annotated[str | None, typer.Option("--hash", help="Refuse unless the list still has this hash.")] = None,
) -> None:
    """Show or, with --set, replace the sharing list of a site."""
    from uid2.admin.keysets import set_sharing_list, sharing_list

    if change_it:
        wanted = None if allowed is None else ids_of(allowed)
        found = change(context, lambda c: set_sharing_list(c, site, wanted, types_of(allowed_types), seen))
    else:
        found = look(context, lambda c: sharing_list(c, site))
    show_one(
        context,
        {
            "keyset": found.keyset_id,
            "allowed sites": "no list" if found.allowed_sites is None else found.allowed_sites,
            "allowed types": found.allowed_types,
            "hash": found.digest,
        },
    )


@app.command("related")
def related(context: typer.Context, site: Annotated[int, typer.Argument(help="Site id.")]) -> None:
    """List the keysets to rotate when the credentials of a site have leaked."""
    from uid2.admin.keysets import related_keysets

    show_list(context, map(_row, look(context, lambda c: related_keysets(c, site))))


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List encryption keys, without their secrets."""
    from uid2.admin.records import KEYSET_KEYS

    show_list(context, _key_rows(look(context, lambda c: c.records(KEYSET_KEYS))))


@keys.command("rotate-master")
def rotate_master(context: typer.Context, min_age: MinAge, force: Force = False) -> None:
    """Rotate the master key and the refresh key."""
    from uid2.admin.keys import rotate_master

    show_list(context, _key_rows(change(context, lambda c: rotate_master(c, min_age, force=force))))


@keys.command("rotate-site")
def rotate_site(context: typer.Context, site: int, min_age: MinAge, force: Force = False) -> None:
    """Rotate the keys of one site."""
    from uid2.admin.keys import rotate_site

    show_list(context, _key_rows(change(context, lambda c: rotate_site(c, site, min_age, force=force))))


@keys.command("rotate-all-sites")
def rotate_all_sites(context: typer.Context, min_age: MinAge, force: Force = False) -> None:
    """Rotate the keys of every site."""
    from uid2.admin.keys import rotate_all_sites

    show_list(context, _key_rows(change(context, lambda c: rotate_all_sites(c, min_age, force=force))))


@keys.command("rotate-keyset")
def rotate_keyset(context: typer.Context, keyset: int, min_age: MinAge, force: Force = False) -> None:
    """Rotate the key of one keyset."""
    from uid2.admin.keys import rotate_keyset_key

    show_list(context, _key_rows(change(context, lambda c: rotate_keyset_key(c, keyset, min_age, force=force))))


def _row(record: "AdminKeyset") -> Row:
    keyset = record.keyset
    return {
        "keyset": keyset.keyset_id,
        "site": keyset.site_id,
        "name": keyset.name,
        "allowed sites": "no list" if keyset.allowed_sites is None else sorted(keyset.allowed_sites),
        "allowed types": sorted(record.allowed_types),
        "enabled": keyset.enabled,
        "default": keyset.default,
    }


def _key_rows(found: "Iterable[KeysetKey]") -> list[Row]:
    return [
        {
            "id": key.id,
            "keyset": key.keyset_id,
            "created": key.created,
            "activates": key.activates,
            "expires": key.expires,
        }
        for key in found
    ]
