"""The small document that names a store's version and content file (core chapter, 9.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.store_json import RecordReader, parse_json, write_json

# Most stores keep the location in a member of their own name.
LOCATION_MEMBERS: Final = {"clients": "client_keys"}


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """`raw` is the whole document, unknown members included. Only the growth of `version` means anything."""

    version: int
    generated: int
    location: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)


def location_member(store: str) -> str:
    return LOCATION_MEMBERS.get(store, store)


def parse_version(data: bytes) -> int:
    """The `version` of any metadata document."""
    return _document(data).long("version")


def parse_metadata(data: bytes, store: str) -> StoreMetadata:
    record = _document(data)
    holder = record.raw(location_member(store))
    if not isinstance(holder, dict):
        raise record.wrong(location_member(store), "required member is missing or not an object")
    location = holder.get("location")
    if not isinstance(location, str) or not location:
        raise record.wrong(f"{location_member(store)}.location", "required member is missing or not a string")
    return StoreMetadata(record.long("version"), record.long("generated", 0), location, record.members)


def encode_metadata(
    store: str, version: int, generated: int, location: str, extra: Mapping[str, object] | None = None
) -> bytes:
    """`extra` holds members such as `max_key_id`."""
    document: dict[str, object] = {"version": version, "generated": generated, **(extra or {})}
    document[location_member(store)] = {"location": location}
    return write_json(document)


def _document(data: bytes) -> RecordReader:
    document = parse_json(data)
    if not isinstance(document, dict):
        raise StoreFormatError("not a JSON object", next_step="restore the previous version of the file")
    return RecordReader(document)
