"""`uid2 admin client …`: the keys that publishers, advertisers and DSPs call with."""

from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, look, roles_of, show_list, show_one

if TYPE_CHECKING:
    from uid2.protocol.clients import Client

app = typer.Typer(help="Keys that callers of the operator use.", no_args_is_help=True)

Contact = Annotated[str, typer.Argument(help="Contact or key id of the client key.")]
Roles = Annotated[str, typer.Option(help="GENERATOR, MAPPER, ID_READER, SHARER, OPTOUT; separated by commas.")]


@app.command("add")
def add(
    context: typer.Context,
    name: str,
    site: Annotated[int, typer.Option(help="Site id of the owner.")],
    roles: Roles,
    service: Annotated[int, typer.Option(help="Service id, for keys of a service.")] = 0,
) -> None:
    """Make a client key. Key and secret are printed now and cannot be had again."""
    from uid2.admin.clients import add_client

    issued = change(context, lambda c: add_client(c, name, site, roles_of(roles), service))
    show_one(context, {**_row(issued.client), "key": issued.key, "secret": issued.secret})


@app.command("list")
def list_clients(
    context: typer.Context, site: Annotated[int | None, typer.Option(help="Only those of a site.")] = None
) -> None:
    """List client keys."""
    from uid2.admin.records import CLIENTS

    clients = look(context, lambda c: c.records(CLIENTS))
    show_list(context, (_row(client) for client in clients if site in (None, client.site_id)))


@app.command("show")
def show(context: typer.Context, contact: Contact) -> None:
    """Show one client key."""
    from uid2.admin.clients import find_client

    show_one(context, _row(look(context, lambda c: find_client(c, contact))))


@app.command("reveal")
def reveal(context: typer.Context, contact: Contact) -> None:
    """Show hash, salt and secret of a client key."""
    from uid2.admin.clients import find_client
    from uid2.protocol.encoding import encode_base64

    client = look(context, lambda c: find_client(c, contact))
    secrets = {
        "key_hash": client.key_hash,
        "key_salt": client.key_salt,
        "secret": encode_base64(client.secret.reveal()),
    }
    show_one(context, {**_row(client), **secrets})


@app.command("roles")
def roles(context: typer.Context, contact: Contact, roles: Annotated[str, typer.Argument()]) -> None:
    """Replace the roles."""
    from uid2.admin.clients import set_client_roles

    show_one(context, _row(change(context, lambda c: set_client_roles(c, contact, roles_of(roles)))))


@app.command("move")
def move(
    context: typer.Context,
    contact: Contact,
    site: Annotated[int, typer.Option(help="Site id of the new owner.")],
    service: Annotated[int | None, typer.Option(help="Service id.")] = None,
) -> None:
    """Give a client key to another site."""
    from uid2.admin.clients import move_client

    show_one(context, _row(change(context, lambda c: move_client(c, contact, site, service))))


@app.command("enable")
def enable(context: typer.Context, contact: Contact) -> None:
    """Enable a client key."""
    from uid2.admin.clients import enable_client

    show_one(context, _row(change(context, lambda c: enable_client(c, contact, enabled=True))))


@app.command("disable")
def disable(context: typer.Context, contact: Contact) -> None:
    """Disable a client key; operators refuse it after their next refresh."""
    from uid2.admin.clients import enable_client

    show_one(context, _row(change(context, lambda c: enable_client(c, contact, enabled=False))))


@app.command("rename")
def rename(
    context: typer.Context,
    contact: Contact,
    name: str | None = None,
    new_contact: Annotated[str | None, typer.Option("--contact")] = None,
) -> None:
    """Change name or contact."""
    from uid2.admin.clients import rename_client

    show_one(context, _row(change(context, lambda c: rename_client(c, contact, name=name, new_contact=new_contact))))


@app.command("delete")
def delete(context: typer.Context, contact: Contact) -> None:
    """Delete a client key for good."""
    from uid2.admin.clients import delete_client

    show_one(context, _row(change(context, lambda c: delete_client(c, contact))))


def _row(client: "Client") -> Row:
    from uid2.protocol.store_json import role_names

    return {
        "contact": client.contact,
        "name": client.name,
        "key id": client.key_id,
        "site": client.site_id,
        "roles": role_names(client.roles),
        "disabled": client.disabled,
        "service": client.service_id,
    }
