"""`uid2 admin partner …`: where opt-outs are forwarded to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_session import Row, change, look, show_list, show_one

if TYPE_CHECKING:
    from uid2.protocol.partners import Partner

app = typer.Typer(help="Partners that are told of opt-outs.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Address that is called for each opt-out.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="name=value; ${ADVERTISING_ID} and ${OPTOUT_EPOCH} are filled in.")
]
Headers = Annotated[list[str] | None, typer.Option("--header", help="'Name: value' of a header to send.")]


@app.command("add")
def add(
    context: typer.Context,
    name: str,
    url: Url,
    method: str = "GET",
    params: Params = None,
    headers: Headers = None,
    retry_count: int = 600,
    retry_backoff_ms: int = 6000,
) -> None:
    """Add a partner."""
    from uid2.admin.partners import add_partner

    wanted = _partner(name, url, method, params, headers, retry_count, retry_backoff_ms)
    show_one(context, _row(change(context, lambda c: add_partner(c, wanted))))


@app.command("list")
def list_partners(context: typer.Context) -> None:
    """List partners."""
    from uid2.admin.records import PARTNERS

    show_list(context, map(_row, look(context, lambda c: c.records(PARTNERS))))


@app.command("show")
def show(context: typer.Context, name: str) -> None:
    """Show one partner."""
    from uid2.admin.partners import find_partner

    show_one(context, _row(look(context, lambda c: find_partner(c, name))))


@app.command("update")
def update(
    context: typer.Context,
    name: str,
    url: Url,
    method: str = "GET",
    params: Params = None,
    headers: Headers = None,
    retry_count: int = 600,
    retry_backoff_ms: int = 6000,
) -> None:
    """Replace a partner."""
    from uid2.admin.partners import update_partner

    wanted = _partner(name, url, method, params, headers, retry_count, retry_backoff_ms)
    show_one(context, _row(change(context, lambda c: update_partner(c, wanted))))


@app.command("delete")
def delete(context: typer.Context, name: str) -> None:
    """Delete a partner."""
    from uid2.admin.partners import delete_partner

    show_one(context, _row(change(context, lambda c: delete_partner(c, name))))


@app.command("replace-all")
def replace_all(context: typer.Context, file: Annotated[Path, typer.Argument(help="partners.json to take.")]) -> None:
    """Replace the whole list by that of a file."""
    from uid2.admin.errors import RefusedError
    from uid2.admin.partners import replace_partners
    from uid2.protocol.partners import parse_partners

    try:
        wanted = parse_partners(file.read_bytes())
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}", next_step="check the path") from None
    show_list(context, map(_row, change(context, lambda c: replace_partners(c, wanted))))


def _partner(
    name: str,
    url: str,
    method: str,
    params: list[str] | None,
    headers: list[str] | None,
    retry_count: int,
    retry_backoff_ms: int,
) -> "Partner":
    from uid2.protocol.partners import Partner

    return Partner(name, url, method.upper(), tuple(params or ()), tuple(headers or ()), retry_count, retry_backoff_ms)


def _row(partner: "Partner") -> Row:
    """Header values may be credentials: only their names are shown."""
    return {
        "name": partner.name,
        "url": partner.url,
        "method": partner.method,
        "params": partner.query_params,
        "headers": [header.partition(":")[0] for header in partner.additional_headers],
        "retries": partner.retry_count,
        "pause ms": partner.retry_backoff_ms,
    }
