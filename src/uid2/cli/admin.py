"""`uid2 admin …`: the stores of a universe. The nouns are in the files beside this one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from uid2.cli import (
    admin_clients,
    admin_files,
    admin_keysets,
    admin_operators,
    admin_optout,
    admin_partners,
    admin_salts,
    admin_services,
    admin_sites,
)
from uid2.cli.admin_session import STORE_VARIABLE, Session, change, show_one

app = typer.Typer(help="Administer the stores: sites, keys, operators, enclaves.", no_args_is_help=True)


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    INTEG = "integ"
    PROD = "prod"


class Scope(StrEnum):
    UID2 = "uid2"
    EUID = "euid"


@app.callback()
def options(
    context: typer.Context,
    store: Annotated[
        str, typer.Option(envvar=STORE_VARIABLE, help="Folder or bucket: file:///…, s3://…, az://…, gs://…")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")] = False,
) -> None:
    """Administer the stores: sites, keys, operators, enclaves."""
    context.obj = Session(store, as_json, dry_run)


@app.command("init")
def init(
    context: typer.Context,
    environment: Annotated[Environment, typer.Option(help="What the universe is for.")] = Environment.DEVELOPMENT,
    scope: Annotated[Scope, typer.Option(help="Identity scope.")] = Scope.UID2,
    salts: Annotated[
        int, typer.Option(min=1, max=1_048_576, help="Number of salt buckets; fixed for ever.")
    ] = 1_048_576,
    log_key: Annotated[
        Path, typer.Option(envvar="UID2_LOG_KEY", help="Where the key that signs the log of trusted enclaves goes.")
    ] = Path("uid2-enclave-log.pem"),
) -> None:
    """Make a new universe in an empty folder or bucket."""
    from uid2.admin.enclave_log import public_text
    from uid2.admin.settings import make_settings
    from uid2.admin.universe import initialise
    from uid2.cli.admin_log_key import log_key_for

    key = log_key_for(context, log_key)
    settings = make_settings(
        {
            "environment": environment.value,
            "identity_scope": scope.value.upper(),
            "enclave_log_keys": [public_text(key)],
        }
    )
    change(context, lambda c: initialise(c, settings, salts))
    show_one(
        context,
        {
            "environment": environment.value,
            "scope": scope.value,
            "salts": salts,
            "log key": str(log_key),
            "next": "uid2 admin site add NAME, then client add and operator add",
        },
    )


app.add_typer(admin_sites.app, name="site")
app.add_typer(admin_clients.app, name="client")
app.add_typer(admin_keysets.app, name="keyset")
app.add_typer(admin_keysets.keys, name="key")
app.add_typer(admin_salts.app, name="salt")
app.add_typer(admin_operators.app, name="operator")
app.add_typer(admin_operators.enclaves, name="enclave")
app.add_typer(admin_services.app, name="service")
app.add_typer(admin_services.links, name="link")
app.add_typer(admin_services.keypairs, name="keypair")
app.add_typer(admin_partners.app, name="partner")
app.add_typer(admin_files.cloud_keys, name="cloud-key")
app.add_typer(admin_files.app, name="files")
app.add_typer(admin_optout.app, name="optout")
