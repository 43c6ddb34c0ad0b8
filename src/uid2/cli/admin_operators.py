"""`uid2 admin operator …` and `uid2 admin enclave …`: who may run an operator, and which code."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.admin_log_key import DEFAULT_LOG_KEY, LOG_KEY_VARIABLE, actor
from uid2.cli.admin_session import Row, change, look, roles_of, show_list, show_one

if TYPE_CHECKING:
    from uid2.admin.enclaves import Measurement
    from uid2.protocol.operators import OperatorKey, OperatorType

app = typer.Typer(help="Keys of operators and of the opt-out service.", no_args_is_help=True)
enclaves = typer.Typer(help="Enclaves that Core trusts, and the signed log of them.", no_args_is_help=True)

LogKey = Annotated[Path, typer.Option(envvar=LOG_KEY_VARIABLE, help="File with the key that signs the log.")]


class Kind(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


@app.command("add")
def add(
    context: typer.Context,
    name: str,
    site: Annotated[int, typer.Option(help="Site id of the owner.")],
    protocol: Annotated[str, typer.Option(help="azure-sgx, or trusted for the opt-out service.")] = "azure-sgx",
    kind: Annotated[Kind, typer.Option("--type", help="Which data the operator gets.")] = Kind.PRIVATE,
    roles: Annotated[str, typer.Option(help="OPERATOR; OPERATOR,OPTOUT; or OPTOUT_SERVICE.")] = "",
) -> None:
    """Make an operator key. It is printed now and cannot be had again."""
    from uid2.admin.operators import add_operator

    issued = change(
        context,
        lambda c: add_operator(c, name, site, protocol=protocol, operator_type=_kind(kind), roles=roles_of(roles)),
    )
    show_one(context, {**_row(issued.operator), "key": issued.key})


@app.command("list")
def list_operators(context: typer.Context) -> None:
    """List operator keys."""
    from uid2.admin.records import OPERATORS

    show_list(context, map(_row, look(context, lambda c: c.records(OPERATORS))))


@app.command("show")
def show(context: typer.Context, name: str) -> None:
    """Show one operator key."""
    from uid2.admin.operators import find_operator

    show_one(context, _row(look(context, lambda c: find_operator(c, name))))


@app.command("reveal")
def reveal(context: typer.Context, name: str) -> None:
    """Show hash and salt of an operator key."""
    from uid2.admin.operators import find_operator

    operator = look(context, lambda c: find_operator(c, name))
    show_one(context, {**_row(operator), "key_hash": operator.key_hash, "key_salt": operator.key_salt})


@app.command("update")
def update(
    context: typer.Context,
    name: str,
    site: int | None = None,
    kind: Annotated[Kind | None, typer.Option("--type")] = None,
) -> None:
    """Change site or type."""
    from uid2.admin.operators import update_operator

    wanted = None if kind is None else _kind(kind)
    show_one(context, _row(change(context, lambda c: update_operator(c, name, site_id=site, operator_type=wanted))))


@app.command("roles")
def roles(context: typer.Context, name: str, roles: Annotated[str, typer.Argument()]) -> None:
    """Replace the roles."""
    from uid2.admin.operators import set_operator_roles

    show_one(context, _row(change(context, lambda c: set_operator_roles(c, name, roles_of(roles)))))


@app.command("enable")
def enable(context: typer.Context, name: str) -> None:
    """Enable an operator key."""
    from uid2.admin.operators import enable_operator

    show_one(context, _row(change(context, lambda c: enable_operator(c, name, enabled=True))))


@app.command("disable")
def disable(context: typer.Context, name: str) -> None:
    """Disable an operator key; Core refuses it within a minute and the operator stops."""
    from uid2.admin.operators import enable_operator

    show_one(context, _row(change(context, lambda c: enable_operator(c, name, enabled=False))))


@app.command("delete")
def delete(context: typer.Context, name: str) -> None:
    """Delete an operator key for good."""
    from uid2.admin.operators import delete_operator

    show_one(context, _row(change(context, lambda c: delete_operator(c, name))))


@enclaves.command("add")
def add_enclave(
    context: typer.Context,
    name: str,
    record: Annotated[Path | None, typer.Option(help="identity.json of a build.")] = None,
    quote: Annotated[Path | None, typer.Option(help="File with an SGX quote of the enclave.")] = None,
    enclave_id: Annotated[str | None, typer.Option(help="MRENCLAVE in hexadecimal digits.")] = None,
    protocol: str = "azure-sgx",
    log_key: LogKey = DEFAULT_LOG_KEY,
) -> None:
    """Trust an enclave from now on; says so in the signed log."""
    from uid2.admin.enclave_log import read_key
    from uid2.admin.enclaves import add_enclave

    measurement, key = _measurement(record, quote, enclave_id), read_key(log_key)
    added = change(context, lambda c: add_enclave(c, name, measurement, actor=actor(), key=key, protocol=protocol))
    show_one(context, {"name": added.name, "protocol": added.protocol, "identifier": added.identifier})


@enclaves.command("list")
def list_enclaves(context: typer.Context) -> None:
    """List trusted enclaves."""
    from uid2.admin.records import ENCLAVES

    show_list(
        context,
        (
            {"name": e.name, "protocol": e.protocol, "identifier": e.identifier, "created": e.created}
            for e in look(context, lambda c: c.records(ENCLAVES))
        ),
    )


@enclaves.command("delete")
def delete_enclave(context: typer.Context, name: str, log_key: LogKey = DEFAULT_LOG_KEY) -> None:
    """Trust an enclave no longer; says so in the signed log."""
    from uid2.admin.enclave_log import read_key
    from uid2.admin.enclaves import remove_enclave

    key = read_key(log_key)
    removed = change(context, lambda c: remove_enclave(c, name, actor=actor(), key=key))
    show_one(context, {"name": removed.name, "identifier": removed.identifier})


@enclaves.command("log")
def log(context: typer.Context) -> None:
    """Verify the log and show what was trusted when and by whom."""
    from uid2.admin.enclave_log import verified_log

    show_list(
        context,
        (
            {
                "number": entry.number,
                "at": entry.at,
                "actor": entry.actor,
                "action": entry.action,
                "name": entry.name,
                "source": entry.source,
                "identifier": entry.identifier,
            }
            for entry in look(context, verified_log)
        ),
    )


def _measurement(record: Path | None, quote: Path | None, enclave_id: str | None) -> "Measurement":
    from uid2.admin.enclaves import Measurement, measurement_of_quote, measurement_of_record
    from uid2.admin.errors import RefusedError

    if sum(source is not None for source in (record, quote, enclave_id)) != 1:
        raise RefusedError("exactly one of --record, --quote and --enclave-id is needed")
    try:
        if record is not None:
            return measurement_of_record(record.read_bytes())
        if quote is not None:
            return measurement_of_quote(quote.read_bytes())
    except OSError as error:
        raise RefusedError(f"{record or quote} cannot be read: {error.strerror}", next_step="check the path") from None
    return Measurement((enclave_id or "").lower(), "identifier")


def _kind(kind: Kind) -> "OperatorType":
    from uid2.protocol.operators import OperatorType

    return OperatorType[kind.name]


def _row(operator: "OperatorKey") -> Row:
    from uid2.protocol.store_json import role_names

    return {
        "name": operator.name,
        "key id": operator.key_id,
        "site": operator.site_id,
        "protocol": operator.protocol,
        "type": operator.operator_type.value,
        "roles": role_names(operator.roles),
        "disabled": operator.disabled,
    }
