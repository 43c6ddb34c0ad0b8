"""`uid2 inspect …`: a byte string explained field by field."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.layout import section

if TYPE_CHECKING:
    from collections.abc import Callable

    from uid2.protocol.ids import KeyId
    from uid2.protocol.keysets import KeysetKey

app = typer.Typer(help="Explain a byte string field by field.", no_args_is_help=True)

TextArgument = Annotated[str, typer.Argument(help="The text, or - to read it from standard input.")]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", help="keyset_keys.json whose keys open it.", show_default=False),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="State folder of `uid2 up`: its keys open it.", show_default=False),
]


class IdEnvironment(StrEnum):
    TEST = "test"
    INTEG = "integ"
    PROD = "prod"


@app.callback()
def inspect() -> None:
    """Explain a byte string field by field."""


@app.command("token")
def inspect_token(text: TextArgument, keys: KeysOption = None, state: StateOption = None) -> None:
    """An advertising token: its header, and with keys its content."""
    from uid2.cli.explained import advertising_token_sections

    _print(advertising_token_sections(_read(text), _key_lookup(keys, state)))


@app.command("refresh-token")
def inspect_refresh_token(text: TextArgument, keys: KeysOption = None, state: StateOption = None) -> None:
    """A refresh token, wrapped (388 characters) or not."""
    from uid2.cli.explained import refresh_token_sections

    _print(refresh_token_sections(_read(text), _key_lookup(keys, state)))


@app.command("envelope")
def inspect_envelope(
    text: TextArgument,
    secret: Annotated[
        str | None,
        typer.Option("--secret", envvar="UID2_CLIENT_SECRET", help="Client secret, base64.", show_default=False),
    ] = None,
    response: Annotated[bool, typer.Option("--response", help="It is an answer, not a request.")] = False,
) -> None:
    """A request or response envelope in base64; with the client secret its time, nonce and document."""
    from uid2.cli.explained import envelope_sections

    _print(envelope_sections(_read(text), secret, response=response))


@app.command("salts")
def inspect_salts(
    file: Annotated[Path, typer.Argument(help="Salt file, or salts metadata.json.")],
    row: Annotated[int | None, typer.Option(help="Show this row (from 0) in full.", show_default=False)] = None,
) -> None:
    """A salts metadata file, or a salt file: its rows, ages and kinds."""
    from uid2.cli.explained_files import salts_sections

    _print(salts_sections(file, row))


@app.command("delta")
def inspect_delta(
    file: Annotated[Path, typer.Argument(help="Opt-out delta or partition file.")],
    entries: Annotated[int, typer.Option(min=0, help="How many entries to list.")] = 5,
    environment: Annotated[
        IdEnvironment, typer.Option(help="Of version 4 IDs whose entry does not name it.")
    ] = IdEnvironment.PROD,
) -> None:
    """An opt-out delta or partition file: its name, its entries and its end."""
    from uid2.cli.explained_files import delta_sections
    from uid2.protocol.ids import Environment

    _print(delta_sections(file, entries, Environment[environment.name]))


@app.command("quote")
def inspect_quote(
    file: Annotated[Path, typer.Argument(help="A quote: bytes, base64, hexadecimal, or an answer of /ops/evidence.")],
) -> None:
    """An SGX quote, as `uid2 quote show` does; nothing is verified."""
    from uid2.cli.explained_quote import quote_sections, read_quote

    _print(quote_sections(read_quote(file)))


def _print(sections: "list[tuple[str, list[tuple[str, object]]]]") -> None:
    print("\n".join(section(title, rows) for title, rows in sections), end="")


def _read(text: str) -> str:
    return sys.stdin.read().strip() if text == "-" else text.strip()


def _key_lookup(keys: Path | None, state: Path | None) -> "Callable[[KeyId], KeysetKey | None] | None":
    from uid2.cli.explained_files import read_keys

    if keys is None and state is None:
        return None
    if keys is None and state is not None:
        from uid2.devstack.state import keyset_keys_file

        keys = keyset_keys_file(state)
    assert keys is not None
    return read_keys(keys)
