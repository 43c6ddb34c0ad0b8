"""Salt buckets, their CSV lines, the metadata that lists the snapshots (tokens chapter, section 5; core chapter, 9.9).

Times are epoch milliseconds. Salts and keys are texts and are used as texts; they are never decoded.

    0   1             2             3             4              5 6 7        8 9 10
    id, last updated, current salt, refresh from, previous salt, current key, previous key     (key: id, key, salt)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.store_json import INT32, INT64, RecordReader, parse_json, read_items, write_json

LEAST_COLUMNS: Final = 9
LARGEST_KEY_ID: Final = 0xFFFFFF
# What a snapshot without an end gets, counted from the moment it is loaded.
DEFAULT_LIFETIME_MS: Final = 365 * 86_400_000
_REBUILD: Final = "write the salt file again from the salt store"


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """`salt` is None when its column was blank."""

    id: int
    key: str
    salt: str | None

    def __repr__(self) -> str:
        return f"KeyMaterial(id={self.id})"


@dataclass(frozen=True, slots=True)
class SaltBucket:
    id: int
    last_updated: EpochMillis
    current_salt: str | None
    refresh_from: EpochMillis
    previous_salt: str | None = None
    current_key: KeyMaterial | None = None
    previous_key: KeyMaterial | None = None

    def __repr__(self) -> str:
        return f"SaltBucket(id={self.id}, last_updated={self.last_updated})"


@dataclass(frozen=True, slots=True)
class SaltSnapshotEntry:
    effective: EpochMillis
    expires: EpochMillis
    location: str
    size: int


@dataclass(frozen=True, slots=True)
class SaltMetadata:
    """`first_level`, `id_prefix` and `id_secret` as texts; `salts` ascending by `effective`."""

    version: int
    generated: int
    first_level: str
    id_prefix: str
    id_secret: str
    salts: tuple[SaltSnapshotEntry, ...]
    key_id: int | None = None

    def __repr__(self) -> str:
        return f"SaltMetadata(version={self.version}, salts={self.salts})"


class Validity(Protocol):
    """Anything in force while `effective <= t < expires`."""

    @property
    def effective(self) -> EpochMillis: ...
    @property
    def expires(self) -> EpochMillis: ...


V = TypeVar("V", bound=Validity)


def parse_salt_metadata(data: bytes, now: EpochMillis) -> SaltMetadata:
    """The metadata document; `now` dates the end of snapshots that name none."""
    document = parse_json(data)
    if not isinstance(document, dict):
        raise StoreFormatError("not a JSON object", next_step="restore the previous version of the file")
    record = RecordReader(document)
    listed = document.get("salts")
    if not isinstance(listed, list) or not listed:
        raise record.wrong("salts", "expected an array with at least one snapshot")
    return SaltMetadata(
        version=record.long("version"),
        generated=record.long("generated", 0),
        first_level=record.text("first_level"),
        id_prefix=record.text("id_prefix"),
        id_secret=record.text("id_secret"),
        salts=tuple(sorted(read_items(listed, lambda entry: _snapshot(entry, now)), key=lambda entry: entry.effective)),
        key_id=record.optional_integer("key_id"),
    )


def encode_salt_metadata(metadata: SaltMetadata) -> bytes:
    document: dict[str, Any] = {
        "version": metadata.version,
        "generated": metadata.generated,
        "first_level": metadata.first_level,
        "id_prefix": metadata.id_prefix,
        "id_secret": metadata.id_secret,
        "salts": [
            {
                "effective": entry.effective,
                "expires": entry.expires,
                "location": entry.location,
                "size": entry.size,
            }
            for entry in metadata.salts
        ],
    }
    if metadata.key_id is not None:
        document["key_id"] = metadata.key_id
    return write_json(document)


def parse_salt_line(line: str, number: int) -> SaltBucket:
    """One bucket; `number` counts from 0 and is named in the StoreFormatError."""
    columns = [column.strip() for column in line.split(",")]
    if len(columns) < LEAST_COLUMNS:
        raise _trouble(number, f"{len(columns)} columns, expected {LEAST_COLUMNS} or more (older layouts have fewer)")
    return SaltBucket(
        id=_integer(columns, 0, "id", number, (0, INT32[1])),
        last_updated=EpochMillis(_integer(columns, 1, "lastUpdated", number, INT64)),
        current_salt=columns[2] or None,
        refresh_from=EpochMillis(_integer(columns, 3, "refreshFrom", number, INT64)),
        previous_salt=columns[4] or None,
        current_key=_key_material(columns, 5, "currentKey", number),
        previous_key=_key_material(columns, 8, "previousKey", number),
    )


def parse_salt_lines(data: bytes) -> Iterator[SaltBucket]:
    """The buckets of a whole file in row order."""
    for number, line in enumerate(split_salt_lines(data)):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise _trouble(number, "not UTF-8") from None
        yield parse_salt_line(text, number)


def split_salt_lines(data: bytes) -> list[bytes]:
    """The rows of a file; the last line feed ends the last row and starts none."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def check_salt_count(found: int, entry: SaltSnapshotEntry) -> None:
    """StoreFormatError unless a file has as many rows as its metadata says."""
    if found != entry.size:
        raise StoreFormatError(
            f"the file has {found} rows, its metadata says {entry.size}", field="size", next_step=_REBUILD
        )


def format_salt_line(bucket: SaltBucket) -> str:
    """The eleven columns without a line feed."""
    columns: list[str] = [
        str(bucket.id),
        str(bucket.last_updated),
        bucket.current_salt or "",
        str(bucket.refresh_from),
        bucket.previous_salt or "",
    ]
    for material in (bucket.current_key, bucket.previous_key):
        columns += ["", "", ""] if material is None else [str(material.id), material.key, material.salt or ""]
    return ",".join(columns)


def select_snapshot(snapshots: Sequence[V], at: EpochMillis) -> V:
    """The snapshot in use at a time, of a list ascending by `effective` (5.3).

    The walk stops at the first snapshot that is not in force, an expired one included; with none in force before it
    the last of the list is used. ValueError for an empty list.
    """
    if not snapshots:
        raise ValueError("no salt snapshot")
    current: V | None = None
    for snapshot in snapshots:
        if not snapshot.effective <= at < snapshot.expires:
            break
        current = snapshot
    return snapshots[-1] if current is None else current


def _snapshot(record: RecordReader, now: EpochMillis) -> SaltSnapshotEntry:
    size = record.integer("size")
    if size < 1:
        raise record.wrong("size", "expected at least one row")
    return SaltSnapshotEntry(
        effective=EpochMillis(record.long("effective")),
        expires=EpochMillis(record.long("expires", now + DEFAULT_LIFETIME_MS)),
        location=record.text("location"),
        size=size,
    )


def _key_material(columns: list[str], first: int, field: str, number: int) -> KeyMaterial | None:
    # Columns after a blank id or key are never looked at, so lines of nine and ten columns parse.
    if not columns[first]:
        return None
    if len(columns) <= first + 1:
        raise _trouble(number, f"{len(columns)} columns, expected 11 when a previous key is given", field)
    if not columns[first + 1]:
        return None
    if len(columns) <= first + 2:
        raise _trouble(number, f"{len(columns)} columns, expected 11 when a previous key is given", field)
    identity = _integer(columns, first, f"{field} id", number, (0, LARGEST_KEY_ID))
    return KeyMaterial(identity, columns[first + 1], columns[first + 2] or None)


def _integer(columns: list[str], index: int, field: str, number: int, limits: tuple[int, int]) -> int:
    text = columns[index]
    digits = text[1:] if text[:1] in ("-", "+") else text
    # Twenty characters bound the work: no 64-bit number needs more.
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise _trouble(number, "not a whole number", field)
    value = int(text)
    if not limits[0] <= value <= limits[1]:
        raise _trouble(number, "number out of range", field)
    return value


def _trouble(number: int, reason: str, field: str = "") -> StoreFormatError:
    return StoreFormatError(
        f"Trouble parsing Salt Entry, line number: {number}: {reason}",
        record=str(number),
        field=field,
        next_step=_REBUILD,
    )
