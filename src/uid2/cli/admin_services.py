"""`uid2 admin service …`, `link …` and `keypair …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, look, roles_of, show_list, show_one

if TYPE_CHECKING:
    from uid2.protocol.keypairs import ClientSideKeypair
    from uid2.protocol.services import Service, ServiceLink

app = typer.Typer(help="Services that call on behalf of others.", no_args_is_help=True)
links = typer.Typer(help="Whom a service may call for.", no_args_is_help=True)
keypairs = typer.Typer(help="Key pairs for client-side token generation.", no_args_is_help=True)

Roles = Annotated[str, typer.Option(help="Roles, separated by commas.")]
OptionalRoles = Annotated[str | None, typer.Option(help="Roles, separated by commas.")]
Disabled = Annotated[bool | None, typer.Option("--disable/--enable")]


@app.command("add")
def add(
    context: typer.Context,
    name: str,
    site: int,
    roles: Roles,
    link_id_regex: Annotated[str, typer.Option(help="Pattern that link ids must match.")] = "",
) -> None:
    """Add a service."""
    from uid2.admin.services import add_service

    show_one(context, _row(change(context, lambda c: add_service(c, name, site, roles_of(roles), link_id_regex))))


@app.command("list")
def list_services(context: typer.Context) -> None:
    """List services."""
    from uid2.admin.records import SERVICES

    show_list(context, map(_row, look(context, lambda c: c.records(SERVICES))))


@app.command("show")
def show(context: typer.Context, service_id: int) -> None:
    """Show one service."""
    from uid2.admin.services import find_service

    show_one(context, _row(look(context, lambda c: find_service(c, service_id))))


@app.command("update")
def update(
    context: typer.Context,
    service_id: int,
    site: int | None = None,
    name: str | None = None,
    roles: OptionalRoles = None,
    link_id_regex: str | None = None,
    disabled: Disabled = None,
) -> None:
    """Change a service."""
    from uid2.admin.services import update_service

    granted = None if roles is None else roles_of(roles)
    updated = change(
        context,
        lambda c: update_service(
            c, service_id, site_id=site, name=name, roles=granted, link_id_regex=link_id_regex, disabled=disabled
        ),
    )
    show_one(context, _row(updated))


@app.command("remove-link-id-regex")
def remove_regex(context: typer.Context, service_id: int) -> None:
    """Accept any link id from now on."""
    from uid2.admin.services import remove_link_id_regex

    show_one(context, _row(change(context, lambda c: remove_link_id_regex(c, service_id))))


@app.command("delete")
def delete(context: typer.Context, service_id: int) -> None:
    """Delete a service without links."""
    from uid2.admin.services import delete_service

    show_one(context, _row(change(context, lambda c: delete_service(c, service_id))))


@links.command("add")
def add_one_link(
    context: typer.Context,
    link_id: str,
    service: Annotated[int, typer.Option(help="Service id.")],
    site: Annotated[int, typer.Option(help="Site id.")],
    roles: Roles,
    name: str = "",
) -> None:
    """Let a service call for a site."""
    from uid2.admin.services import add_link

    show_one(context, _link_row(change(context, lambda c: add_link(c, service, link_id, site, name, roles_of(roles)))))


@links.command("list")
def list_links(context: typer.Context) -> None:
    """List links."""
    from uid2.admin.records import SERVICE_LINKS

    show_list(context, map(_link_row, look(context, lambda c: c.records(SERVICE_LINKS))))


@links.command("update")
def update_one_link(
    context: typer.Context,
    link_id: str,
    service: Annotated[int, typer.Option(help="Service id.")],
    name: str | None = None,
    roles: OptionalRoles = None,
    disabled: Disabled = None,
) -> None:
    """Change a link."""
    from uid2.admin.services import update_link

    granted = None if roles is None else roles_of(roles)
    updated = change(context, lambda c: update_link(c, service, link_id, name=name, roles=granted, disabled=disabled))
    show_one(context, _link_row(updated))


@links.command("delete")
def delete_one_link(
    context: typer.Context, link_id: str, service: Annotated[int, typer.Option(help="Service id.")]
) -> None:
    """Delete a link."""
    from uid2.admin.services import delete_link

    show_one(context, _link_row(change(context, lambda c: delete_link(c, service, link_id))))


@keypairs.command("add")
def add_pair(context: typer.Context, site: int, name: str = "", contact: str = "", disabled: bool = False) -> None:
    """Make a key pair; subscription id and public key go into the site's web page."""
    from uid2.admin.keypairs import add_keypair

    made = change(context, lambda c: add_keypair(c, site, name=name, contact=contact, disabled=disabled))
    show_one(context, _pair_row(made))


@keypairs.command("list")
def list_pairs(context: typer.Context) -> None:
    """List key pairs, without the private halves."""
    from uid2.admin.records import KEYPAIRS

    show_list(context, map(_pair_row, look(context, lambda c: c.records(KEYPAIRS))))


@keypairs.command("reveal")
def reveal_pair(context: typer.Context, subscription_id: str) -> None:
    """Show one key pair with its private half."""
    from uid2.admin.keypairs import find_keypair

    pair = look(context, lambda c: find_keypair(c, subscription_id))
    show_one(context, {**_pair_row(pair), "private key": pair.private_key_text.reveal().decode()})


@keypairs.command("update")
def update_pair(
    context: typer.Context,
    subscription_id: str,
    name: str | None = None,
    contact: str | None = None,
    disabled: Disabled = None,
) -> None:
    """Change a key pair."""
    from uid2.admin.keypairs import update_keypair

    updated = change(
        context, lambda c: update_keypair(c, subscription_id, contact=contact, disabled=disabled, name=name)
    )
    show_one(context, _pair_row(updated))


@keypairs.command("delete")
def delete_pair(context: typer.Context, subscription_id: str) -> None:
    """Delete a key pair for good."""
    from uid2.admin.keypairs import delete_keypair

    show_one(context, _pair_row(change(context, lambda c: delete_keypair(c, subscription_id))))


def _row(service: "Service") -> Row:
    from uid2.protocol.store_json import role_names

    return {
        "id": service.service_id,
        "name": service.name,
        "site": service.site_id,
        "roles": role_names(service.roles),
        "link ids": service.link_id_regex,
        "disabled": service.disabled,
    }


def _link_row(link: "ServiceLink") -> Row:
    from uid2.protocol.store_json import role_names

    return {
        "link id": link.link_id,
        "service": link.service_id,
        "site": link.site_id,
        "name": link.name,
        "roles": role_names(link.roles),
        "disabled": link.disabled,
    }


def _pair_row(pair: "ClientSideKeypair") -> Row:
    return {
        "subscription id": pair.subscription_id,
        "site": pair.site_id,
        "name": pair.name,
        "contact": pair.contact,
        "disabled": pair.disabled,
        "public key": pair.public_key_text,
    }
