"""`uid2 admin optout lookup`: which files hold an opt-out, and since when."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from uid2.cli.admin_session import Row, session_of, show_list, show_one
from uid2.cli.optout_place import OptOutPlace, iso, place_of, say
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import Environment

if TYPE_CHECKING:
    from uid2.optout.entry_files import Found

_LENGTHS: Final = (32, 33)


class Kind(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    EMAIL_HASH = "email_hash"
    PHONE_HASH = "phone_hash"
    FIRST_LEVEL_HASH = "first_level_hash"
    ADVERTISING_ID = "advertising_id"


def lookup(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What to look for, or - to read it from standard input.")],
    kind: Annotated[
        Kind | None, typer.Option(help="What it is. An e-mail address and a phone number show it.", show_default=False)
    ] = None,
) -> None:
    """Which files hold an opt-out, and since when; hashes and IDs in base64."""
    place = place_of(context)
    text = sys.stdin.readline().strip() if text == "-" else text.strip()
    wanted = kind or _kind_shown(text)
    environment = Environment.PROD if place.settings is None else place.settings.id_environment
    if wanted is Kind.ADVERTISING_ID:
        found, searched, faults = _search(place, _decoded(text, _LENGTHS), environment, by_id=True)
    else:
        found, searched, faults = _search(place, _hash_of(context, wanted, text), environment, by_id=False)
    rows = [_row(entry) for entry in found]
    if session_of(context).as_json:
        show_one(context, {"found": rows, **searched, "problems": faults})
        return
    if rows:
        show_list(context, rows)
        print(f"opted out since {iso(min(entry.entry.timestamp for entry in found))}")
    else:
        print(f"no entry was found in {searched['files']} files with {searched['entries']} entries")
    waiting = place.waiting()
    if waiting:
        say(f"{waiting} opt-outs wait for their file and were not searched")
    for fault in faults:
        say(f"warning: {fault}")


def _search(
    place: OptOutPlace, wanted: bytes, environment: Environment, *, by_id: bool
) -> "tuple[list[Found], dict[str, int], list[str]]":
    """What was found, how much was searched, and what could not be."""
    from uid2.optout.entry_files import EntryFile
    from uid2.protocol.errors import StoreUnavailableError

    found: list[Found] = []
    faults: list[str] = []
    files = entries = 0
    for listed in place.files():
        try:
            file = EntryFile(place.bucket, listed)
            matches: Iterable[Found] = (
                file.with_id(wanted, environment) if by_id else file.with_hash(wanted, environment)
            )
            found += matches
        except StoreUnavailableError as error:
            faults.append(error.message)
            continue
        files, entries = files + 1, entries + file.entries
        if file.torn:
            faults.append(
                f"{listed.path} ends with {file.torn} bytes that belong to no entry: uid2 admin optout verify"
            )
    # Whatever comes first in a search stands for nobody.
    return [entry for entry in found if not entry.entry.special], {"files": files, "entries": entries}, faults


def _hash_of(context: typer.Context, kind: Kind, text: str) -> bytes:
    from uid2.cli.optout_salts import first_level_salt, stores_of
    from uid2.protocol.identity import first_level_hash
    from uid2.protocol.normalize import InputKind, identity_hash_from
    from uid2.protocol.optout_log import SPECIAL_HASHES

    if kind is Kind.FIRST_LEVEL_HASH:
        given = _decoded(text, _LENGTHS[:1])
        if given in SPECIAL_HASHES:
            raise ConfigurationError(
                "that hash marks the ends of files and stands for nobody", next_step="look for another one"
            )
        return given
    identity_hash = identity_hash_from(InputKind(kind.value), text)
    if identity_hash is None:
        raise ConfigurationError(f"the text is no {kind.value}", next_step="correct it, or give another --kind")
    return first_level_hash(identity_hash, first_level_salt(stores_of(context)))


def _kind_shown(text: str) -> Kind:
    if "@" in text:
        return Kind.EMAIL
    if text.startswith("+") and text[1:].isdigit():
        return Kind.PHONE
    raise ConfigurationError("it does not show what this text is", next_step=f"give --kind: one of {', '.join(Kind)}")


def _decoded(text: str, lengths: tuple[int, ...]) -> bytes:
    from uid2.protocol.encoding import decode_base64

    try:
        data = decode_base64(text)
    except ValueError:
        data = b""
    if len(data) not in lengths:
        raise ConfigurationError(
            f"the text is no base64 of {' or '.join(map(str, lengths))} bytes", next_step="copy it whole"
        )
    return data


def _row(found: "Found") -> Row:
    from uid2.cli.explained import raw_uid_kind
    from uid2.protocol.encoding import encode_base64
    from uid2.protocol.ids import RawUid

    identifier = found.entry.advertising_id
    return {
        "file": found.file.path,
        "entry": found.number,
        "since": iso(found.entry.timestamp),
        "advertising ID": encode_base64(identifier),
        "kind of ID": raw_uid_kind(RawUid(identifier)),
    }
