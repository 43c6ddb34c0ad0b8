"""`uid2 admin site …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, look, show_list, show_one, words_of

if TYPE_CHECKING:
    from uid2.protocol.sites import ClientType, Site

app = typer.Typer(help="Publishers, advertisers and other participants.", no_args_is_help=True)

Id = Annotated[int, typer.Argument(help="Site id.")]
Types = Annotated[str, typer.Option(help="DSP, ADVERTISER, DATA_PROVIDER, PUBLISHER; separated by commas.")]


@app.command("add")
def add(
    context: typer.Context,
    name: str,
    types: Types = "",
    enabled: bool = True,
    description: str = "",
    domains: Annotated[str, typer.Option(help="Web domains for client-side generation, separated by commas.")] = "",
    apps: Annotated[str, typer.Option(help="App names likewise.")] = "",
) -> None:
    """Add a site."""
    from uid2.admin.sites import add_site

    site = change(
        context,
        lambda c: add_site(
            c,
            name,
            enabled=enabled,
            types=types_of(types),
            description=description,
            domain_names=words_of(domains),
            app_names=words_of(apps),
            registrable=_registrable,
        ),
    )
    show_one(context, _row(site))


@app.command("list")
def list_sites(context: typer.Context) -> None:
    """List all sites, the number of client keys and the roles in use."""
    from uid2.admin.records import CLIENTS, SITES
    from uid2.protocol.store_json import role_names

    sites, clients = look(context, lambda c: (c.records(SITES), c.records(CLIENTS)))
    show_list(
        context,
        (
            {
                **_row(site),
                "clients": sum(client.site_id == site.id for client in clients),
                "roles": role_names(role for client in clients if client.site_id == site.id for role in client.roles),
            }
            for site in sites
        ),
    )


@app.command("show")
def show(context: typer.Context, site_id: Id) -> None:
    """Show one site."""
    from uid2.admin.sites import find_site

    show_one(context, _row(look(context, lambda c: find_site(c, site_id))))


@app.command("enable")
def enable(context: typer.Context, site_id: Id) -> None:
    """Enable a site."""
    from uid2.admin.sites import enable_site

    show_one(context, _row(change(context, lambda c: enable_site(c, site_id, enabled=True))))


@app.command("disable")
def disable(context: typer.Context, site_id: Id) -> None:
    """Disable a site."""
    from uid2.admin.sites import enable_site

    show_one(context, _row(change(context, lambda c: enable_site(c, site_id, enabled=False))))


@app.command("types")
def types(context: typer.Context, site_id: Id, kinds: Annotated[str, typer.Argument()]) -> None:
    """Set what a site is; keysets shared by type follow."""
    from uid2.admin.sites import set_types

    show_one(context, _row(change(context, lambda c: set_types(c, site_id, types_of(kinds)))))


@app.command("domains")
def domains(context: typer.Context, site_id: Id, names: Annotated[str, typer.Argument()]) -> None:
    """Set the web domains that may generate tokens on the client's side."""
    from uid2.admin.sites import set_domain_names

    show_one(context, _row(change(context, lambda c: set_domain_names(c, site_id, words_of(names), _registrable))))


@app.command("apps")
def apps(context: typer.Context, site_id: Id, names: Annotated[str, typer.Argument()]) -> None:
    """Set the app names that may generate tokens on the client's side."""
    from uid2.admin.sites import set_app_names

    show_one(context, _row(change(context, lambda c: set_app_names(c, site_id, words_of(names)))))


@app.command("update")
def update(
    context: typer.Context,
    site_id: Id,
    name: str | None = None,
    description: str | None = None,
    visible: Annotated[bool | None, typer.Option("--visible/--hidden")] = None,
) -> None:
    """Change name, description or visibility."""
    from uid2.admin.sites import update_site

    show_one(
        context,
        _row(change(context, lambda c: update_site(c, site_id, name=name, description=description, visible=visible))),
    )


def types_of(texts: str) -> "list[ClientType]":
    from uid2.admin.errors import RefusedError
    from uid2.protocol.sites import ClientType

    try:
        return [ClientType(word.upper()) for word in words_of(texts)]
    except ValueError:
        raise RefusedError("unknown type of site", next_step=f"choose from {', '.join(ClientType)}") from None


def _registrable(origin: str) -> str | None:
    from uid2.operator.origin_check import registrable_domain

    return registrable_domain(origin)


def _row(site: "Site") -> Row:
    return {
        "id": site.id,
        "name": site.name,
        "enabled": site.enabled,
        "types": sorted(site.client_types),
        "domains": site.domain_names,
        "apps": site.app_names,
        "visible": site.visible,
        "description": site.description,
    }
