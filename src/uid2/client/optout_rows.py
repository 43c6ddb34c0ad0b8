"""The opt-outs of a table of identities: what an operator would send for each row on a logout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, final

from uid2.bulk.tables import SaltTable
from uid2.client.tables import Table, kind_of_column
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.identity import bucket_index, first_level_hash, raw_uid
from uid2.protocol.ids import Environment, IdentityHash, IdentityScope
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.optout_log import HASH_LENGTH, SPECIAL_HASHES

HASH_COLUMN: Final = "identity_hash"
ID_COLUMN: Final = "advertising_id"


@dataclass(frozen=True, slots=True)
class Salting:
    """What turns an identity into an opt-out: the salts in force, and what raw UIDs depend on beside them."""

    first_level: str = field(repr=False)
    salts: SaltTable = field(repr=False)
    scope: IdentityScope
    environment: Environment
    identity_v3: bool = False

    def optout(self, identity_hash: IdentityHash, kind: InputKind) -> tuple[bytes, bytes]:
        """First-level hash and raw UID."""
        flh = first_level_hash(identity_hash, self.first_level)
        bucket = self.salts.bucket(bucket_index(flh, self.salts.size))
        return flh, raw_uid(flh, bucket, self.scope, kind.identity_type, self.environment, self.identity_v3)


@dataclass(frozen=True, slots=True)
class OptOutRow:
    """`number` counts the rows of the table from 1, the heading included; 32 bytes, and 32 or 33."""

    number: int
    identity_hash: bytes = field(repr=False)
    advertising_id: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that holds no opt-out; `why` quotes nothing of it."""

    number: int
    why: str


@final
class RowReader:
    """Reads the columns `email`, `phone`, `email_hash`, `phone_hash`, or `identity_hash` with `advertising_id`.

    A row with several identities gives an opt-out for each. `salting` is called for all but the last.
    """

    def __init__(self, columns: list[str], salting: Callable[[], Salting]) -> None:
        """ConfigurationError: it is not clear what the columns hold; and what `salting` raises."""
        names = [name.strip().lower() for name in columns]
        self._identities = [(at, kind) for at, name in enumerate(names) if (kind := kind_of_column(name)) is not None]
        self._pair = _pair_of(names)
        if self._pair is None and not self._identities:
            raise ConfigurationError(
                "no column holds identities",
                next_step="name a column email, phone, email_hash or phone_hash, "
                "or two of them identity_hash and advertising_id",
            )
        if self._pair is not None and self._identities:
            raise ConfigurationError(
                "the table holds identities and identity hashes with advertising IDs", next_step="keep one of the two"
            )

        self._salting = salting() if self._pair is None else None

    def read(self, table: Table) -> Iterator[OptOutRow | BadRow]:
        """The opt-outs of each row in order, or what is wrong with it."""
        for number, cells in enumerate(table.rows, start=2):
            if self._pair is not None:
                yield _given(number, cells[self._pair[0]].strip(), cells[self._pair[1]].strip())
            else:
                yield from self._computed(number, cells)

    def _computed(self, number: int, cells: list[str]) -> Iterator[OptOutRow | BadRow]:
        assert self._salting is not None, "there unless the hashes are given"
        empty = True
        for at, kind in self._identities:
            text = cells[at].strip()
            if not text:
                continue
            empty = False
            identity_hash = identity_hash_from(kind, text)
            if identity_hash is None:
                yield BadRow(number, f"column {kind.value} holds no {_expected(kind)}")
                continue
            yield OptOutRow(number, *self._salting.optout(identity_hash, kind))
        if empty:
            yield BadRow(number, "holds no identity")


def _given(number: int, hash_text: str, id_text: str) -> OptOutRow | BadRow:
    identity_hash, advertising_id = _decoded(hash_text), _decoded(id_text)
    if identity_hash is None or len(identity_hash) != HASH_LENGTH:
        return BadRow(number, f"column {HASH_COLUMN} holds no base64 of {HASH_LENGTH} bytes")
    if identity_hash in SPECIAL_HASHES:
        return BadRow(number, f"column {HASH_COLUMN} holds one of the two values that mark the ends of a file")
    if advertising_id is None or len(advertising_id) not in (HASH_LENGTH, HASH_LENGTH + 1):
        return BadRow(number, f"column {ID_COLUMN} holds no base64 of 32 or 33 bytes")
    return OptOutRow(number, identity_hash, advertising_id)


def _pair_of(names: list[str]) -> tuple[int, int] | None:
    if HASH_COLUMN not in names and ID_COLUMN not in names:
        return None
    for name, other in ((HASH_COLUMN, ID_COLUMN), (ID_COLUMN, HASH_COLUMN)):
        if name not in names:
            raise ConfigurationError(
                f"there is a column {other} and none {name}", next_step=f"add the column {name}, or drop {other}"
            )
    return names.index(HASH_COLUMN), names.index(ID_COLUMN)


def _expected(kind: InputKind) -> str:
    return {
        InputKind.EMAIL: "e-mail address",
        InputKind.PHONE: "phone number of + and 10 to 15 digits",
    }.get(kind, "base64 or hexadecimal of 32 bytes")


def _decoded(text: str) -> bytes | None:
    try:
        return decode_base64(text)
    except ValueError:
        return None
