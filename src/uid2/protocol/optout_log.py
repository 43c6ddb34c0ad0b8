"""Entries and names of opt-out files (opt-out chapter, section 3).

0              32                 64              71
├ identity hash ┼ advertising ID ┼ seconds, LE 56 ┼ metadata ┤   72 bytes
                   last 32 bytes                    bits 7-6: 0 = 32-byte ID, else 33; 5-0: first byte of the ID

A file is a plain run of entries. A delta starts with the null hash and ends with the ones hash, whose times are the
ends of its window; a partition is sorted by identity hash. No reader relies on either.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, EpochSeconds

ENTRY_LENGTH: Final = 72
HASH_LENGTH: Final = 32
LARGEST_TIMESTAMP: Final = (1 << 56) - 1
NULL_HASH: Final = bytes(HASH_LENGTH)
ONES_HASH: Final = b"\xff" * HASH_LENGTH
SPECIAL_HASHES: Final = frozenset((NULL_HASH, ONES_HASH))
SYNTHETIC_REPLICA: Final = 999
NO_REPLICA: Final = -1

_LONG_ID: Final = 0x40
_LOW_SIX: Final = 0x3F
_V4_FLAG: Final = 0x20
_NAME_TIME: Final = "%Y-%m-%dT%H.%M.%SZ"
_TIME_SHAPE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\dZ", re.ASCII)


@dataclass(frozen=True, slots=True)
class OptOutEntry:
    """`advertising_id`: 32 bytes (version 2) or 33 (versions 3 and 4)."""

    identity_hash: bytes = field(repr=False)
    advertising_id: bytes = field(repr=False)
    timestamp: EpochSeconds

    @property
    def special(self) -> bool:
        """A start or end entry, which stands for nobody."""
        return self.identity_hash in SPECIAL_HASHES


def start_entry(timestamp: EpochSeconds) -> OptOutEntry:
    return OptOutEntry(NULL_HASH, NULL_HASH, timestamp)


def end_entry(timestamp: EpochSeconds) -> OptOutEntry:
    return OptOutEntry(ONES_HASH, ONES_HASH, timestamp)


def encode_entry(entry: OptOutEntry) -> bytes:
    """72 bytes. ValueError for parts of a wrong length or a time beyond 56 bits."""
    identifier = entry.advertising_id
    if len(entry.identity_hash) != HASH_LENGTH:
        raise ValueError(f"an identity hash has {HASH_LENGTH} bytes, not {len(entry.identity_hash)}")
    if len(identifier) not in (HASH_LENGTH, HASH_LENGTH + 1):
        raise ValueError(f"an advertising ID has 32 or 33 bytes, not {len(identifier)}")
    if not 0 <= entry.timestamp <= LARGEST_TIMESTAMP:
        raise ValueError("the time of an opt-out is negative or beyond 56 bits")
    metadata = identifier[0] | _LONG_ID if len(identifier) > HASH_LENGTH else 0
    return entry.identity_hash + identifier[-HASH_LENGTH:] + entry.timestamp.to_bytes(7, "little") + bytes((metadata,))


def decode_entry(data: bytes | memoryview, environment: Environment) -> OptOutEntry:
    """The entry of 72 bytes; ValueError for any other length.

    The file format drops the two bits of a version 4 ID that hold its environment. Prod is recognised by what
    remains; test and integ look alike and are told apart by the deployment's own `environment`.
    """
    if len(data) != ENTRY_LENGTH:
        raise ValueError(f"an opt-out entry has {ENTRY_LENGTH} bytes, not {len(data)}")
    view = memoryview(data)
    body = bytes(view[32:64])
    return OptOutEntry(
        bytes(view[:32]),
        advertising_id_prefix(view[71], environment) + body,
        EpochSeconds(int.from_bytes(view[64:71], "little")),
    )


def advertising_id_prefix(metadata: int, environment: Environment) -> bytes:
    """The first byte of a 33-byte advertising ID; empty for a 32-byte one."""
    version, low = metadata >> 6, metadata & _LOW_SIX
    if version == 0:
        return b""
    if version == 3:
        return bytes((0x80 | low,))
    if version == 1 and low & _V4_FLAG and environment is Environment.INTEG:
        return bytes((0x40 | low,))
    return bytes((low,))


def iter_entries(data: bytes | memoryview, environment: Environment) -> Iterator[OptOutEntry]:
    """Every entry of a file, special ones included; StoreFormatError when the size is no multiple of 72."""
    check_size(len(data))
    view = memoryview(data)
    for offset in range(0, len(view), ENTRY_LENGTH):
        yield decode_entry(view[offset : offset + ENTRY_LENGTH], environment)


def check_size(size: int) -> None:
    if size % ENTRY_LENGTH:
        raise StoreFormatError(
            f"the size {size} is no multiple of {ENTRY_LENGTH}",
            record=str(size // ENTRY_LENGTH),
            next_step="fetch the file again, or remove it once its opt-outs are known to be elsewhere",
        )


class OptOutFileKind(StrEnum):
    DELTA = "delta"
    PARTITION = "partition"


@dataclass(frozen=True, slots=True)
class OptOutFileName:
    """`optout-<kind>-RRR_YYYY-MM-DDThh.mm.ssZ_XXXXXXXX.dat`; `created` None when the name has no such time."""

    kind: OptOutFileKind
    replica: int
    created: EpochSeconds | None
    number: int = 0

    @property
    def synthetic(self) -> bool:
        return self.replica == SYNTHETIC_REPLICA

    @classmethod
    def parse(cls, path: str) -> "OptOutFileName | None":
        """What a path or URL names, None when it is no opt-out file.

        The replica is the text after the last hyphen, so `-01` reads as 1 although -1 is written that way.
        """
        return _parsed(path.split("?", 1)[0] if path.startswith("http") else path)

    def format(self) -> str:
        """ValueError without a time."""
        if self.created is None:
            raise ValueError("an opt-out file name needs a time")
        when = datetime.fromtimestamp(self.created, UTC).strftime(_NAME_TIME)
        return f"optout-{self.kind}-{self.replica:03d}_{when}_{self.number:08x}.dat"


# Every listing names the same files again: twice, by their names and by their paths.
@lru_cache(maxsize=1 << 16)
def _parsed(path: str) -> OptOutFileName | None:
    kind = next((kind for kind in OptOutFileKind if f"optout-{kind}-" in path), None)
    if kind is None:
        return None
    parts = path.rsplit("/", 1)[-1].split("_")
    return OptOutFileName(
        kind,
        _replica(parts[0]) if len(parts) > 1 else NO_REPLICA,
        _created(parts[1]) if len(parts) > 1 else None,
        _number(parts[2]) if len(parts) > 2 else 0,
    )


def _replica(text: str) -> int:
    digits = text.rsplit("-", 1)[-1]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else NO_REPLICA


def _created(text: str) -> EpochSeconds | None:
    # strptime takes nine times as long and reads dates that the reference does not: "2026-1- 5T…".
    if not _TIME_SHAPE.fullmatch(text):
        return None
    try:
        return EpochSeconds(int(datetime.fromisoformat(text.replace(".", ":")).timestamp()))
    except ValueError:
        return None


def _number(text: str) -> int:
    try:
        return int(text.removesuffix(".dat")[:8], 16)
    except ValueError:
        return 0
