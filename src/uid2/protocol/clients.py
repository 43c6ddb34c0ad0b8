"""Client keys (core chapter, 9.2). Lenient: unknown members ignored, numbers default to 0, booleans to false."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochSeconds, Role, SiteId
from uid2.protocol.secret import Secret
from uid2.protocol.store_json import RecordReader, check_unique, read_records, role_names, write_records

HASH_LENGTH: Final = 64
SECRET_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Client:
    """`secret` is the envelope key and `gcm` its cipher; `service_id` 0 means no service."""

    key_hash: str = field(repr=False)
    key_salt: str = field(repr=False)
    secret: Secret
    gcm: GcmKey = field(repr=False, compare=False)
    name: str | None
    contact: str | None
    created: EpochSeconds
    roles: frozenset[Role]
    site_id: SiteId
    disabled: bool
    service_id: int
    key_id: str | None


def parse_clients(data: bytes) -> tuple[Client, ...]:
    clients = read_records(data, _client)
    check_unique(clients, lambda client: client.key_hash, "key_hash")
    return clients


def encode_clients(clients: Iterable[Client]) -> bytes:
    """The file without any clear-text key."""
    return write_records(
        {
            "key_hash": client.key_hash,
            "key_salt": client.key_salt,
            "secret": encode_base64(client.secret.reveal()),
            "name": client.name,
            "contact": client.contact,
            "created": client.created,
            "roles": role_names(client.roles),
            "site_id": client.site_id,
            "disabled": client.disabled,
            "service_id": client.service_id,
            "key_id": client.key_id,
        }
        for client in clients
    )


def _client(record: RecordReader) -> Client:
    record.decoded("key_hash", HASH_LENGTH)
    record.decoded("key_salt")
    secret = record.decoded("secret", SECRET_LENGTH)
    return Client(
        key_hash=record.text("key_hash"),
        key_salt=record.text("key_salt"),
        secret=Secret(secret),
        gcm=GcmKey(secret),
        name=record.optional_text("name"),
        contact=record.optional_text("contact"),
        created=EpochSeconds(record.long("created", 0)),
        roles=record.named_roles("roles", required=True),
        site_id=SiteId(record.integer("site_id", 0)),
        disabled=record.boolean("disabled", False),
        service_id=record.integer("service_id", 0),
        key_id=record.optional_text("key_id"),
    )
