"""Keys that encrypt store files per site (core chapter, 9.13), lenient. They never expire."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochSeconds, SiteId
from uid2.protocol.secret import Secret
from uid2.protocol.store_json import RecordReader, check_unique, parse_json, read_items, write_records

KEY_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class CloudKey:
    id: int
    site_id: SiteId
    activates: EpochSeconds
    created: EpochSeconds
    secret: Secret
    gcm: GcmKey = field(repr=False, compare=False)


def parse_cloud_keys(data: bytes) -> tuple[CloudKey, ...]:
    """An array, or the object around it that the core service answers with."""
    document = parse_json(data)
    if isinstance(document, dict):
        document = document.get("cloud_encryption_keys")
    if not isinstance(document, list):
        raise StoreFormatError("not a JSON array", next_step="restore the previous version of the file")
    keys = read_items(document, _cloud_key)
    check_unique(keys, lambda key: key.id, "id")
    return keys


def holds_cloud_keys(data: bytes) -> bool:
    """Whether a document is Core's answer with the keys, not metadata with their location."""
    document = parse_json(data)
    return isinstance(document, dict) and isinstance(document.get("cloud_encryption_keys"), list)


def encode_cloud_keys(keys: Iterable[CloudKey]) -> bytes:
    return write_records(
        {
            "id": key.id,
            "siteId": key.site_id,
            "activates": key.activates,
            "created": key.created,
            "secret": encode_base64(key.secret.reveal()),
        }
        for key in keys
    )


def _cloud_key(record: RecordReader) -> CloudKey:
    secret = record.decoded("secret", KEY_LENGTH)
    return CloudKey(
        id=record.integer("id"),
        site_id=SiteId(record.integer("siteId" if record.raw("siteId") is not None else "site_id", 0)),
        activates=EpochSeconds(record.long("activates", 0)),
        created=EpochSeconds(record.long("created", 0)),
        secret=Secret(secret),
        gcm=GcmKey(secret),
    )
