"""The stores of a universe: folder, records, encoder (core chapter, section 9).

`admin_keysets` is the source of `keysets`; `keys` mirrors `keyset_keys` with sites in place of keysets.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from uid2.protocol.clients import Client, encode_clients, parse_clients
from uid2.protocol.cloud_keys import CloudKey, encode_cloud_keys, parse_cloud_keys
from uid2.protocol.enclaves import Enclave, encode_enclaves, parse_enclaves
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochSeconds, KeyId, KeysetId, SiteId
from uid2.protocol.keypairs import ClientSideKeypair, encode_client_side_keypairs, parse_client_side_keypairs
from uid2.protocol.keysets import (
    KEY_LENGTH,
    Keyset,
    KeysetKey,
    encode_keyset_keys,
    encode_keysets,
    parse_keyset_keys,
    parse_keysets,
)
from uid2.protocol.operators import OperatorKey, encode_operators, parse_operators
from uid2.protocol.partners import Partner, encode_partners, parse_partners
from uid2.protocol.secret import Secret
from uid2.protocol.services import (
    Service,
    ServiceLink,
    encode_service_links,
    encode_services,
    parse_service_links,
    parse_services,
)
from uid2.protocol.sites import ClientType, Site, encode_sites, parse_sites
from uid2.protocol.store_json import RecordReader, check_unique, read_records, write_records

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AdminStore(Generic[R]):
    """`name` is the folder, the member of the metadata and the stem of the content files."""

    name: str
    parse: Callable[[bytes], tuple[R, ...]]
    encode: Callable[[Iterable[R]], bytes]
    identity: Callable[[R], object] = field(default=lambda record: record)

    def metadata_path(self, scope: str = "") -> str:
        """`scope` is empty (global), `site/<n>/` or `encrypted/<n>_public/`, `encrypted/<n>_private/`."""
        return f"{self.name}/{scope}metadata.json"


@dataclass(frozen=True, slots=True)
class AdminKeyset:
    """A keyset with the client types whose sites may read it besides the listed ones (9.15)."""

    keyset: Keyset
    allowed_types: frozenset[ClientType] = frozenset()


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A record of the legacy file keys.json (9.5)."""

    id: KeyId
    site_id: SiteId
    created: EpochSeconds
    activates: EpochSeconds
    expires: EpochSeconds
    secret: Secret


@dataclass(frozen=True, slots=True)
class KeyAcl:
    """A record of the legacy file keys_acl.json: one of two lists (9.5)."""

    site_id: SiteId
    whitelist: frozenset[SiteId] | None
    blacklist: frozenset[SiteId] | None

    def permits(self, site_id: SiteId) -> bool:
        if site_id == self.site_id:
            return True
        if self.whitelist is not None:
            return site_id in self.whitelist
        return self.blacklist is None or site_id not in self.blacklist


def parse_admin_keysets(data: bytes) -> tuple[AdminKeyset, ...]:
    keysets = read_records(data, _admin_keyset)
    check_unique(keysets, lambda record: record.keyset.keyset_id, "keyset_id")
    return keysets


def encode_admin_keysets(keysets: Iterable[AdminKeyset]) -> bytes:
    return write_records(
        {
            "keyset": {
                "keyset_id": record.keyset.keyset_id,
                "site_id": record.keyset.site_id,
                "name": record.keyset.name,
                "allowed_sites": None if record.keyset.allowed_sites is None else sorted(record.keyset.allowed_sites),
                "created": record.keyset.created,
                "enabled": record.keyset.enabled,
                "default": record.keyset.default,
            },
            "allowed_types": [kind.value for kind in ClientType if kind in record.allowed_types],
        }
        for record in keysets
    )


def parse_site_keys(data: bytes) -> tuple[SiteKey, ...]:
    return read_records(data, _site_key)


def encode_site_keys(keys: Iterable[SiteKey]) -> bytes:
    return write_records(
        {
            "id": key.id,
            "site_id": key.site_id,
            "created": key.created,
            "activates": key.activates,
            "expires": key.expires,
            "secret": encode_base64(key.secret.reveal()),
        }
        for key in keys
    )


def parse_key_acls(data: bytes) -> tuple[KeyAcl, ...]:
    """Records with neither list are left out, as the reference ignores them."""
    return tuple(acl for acl in read_records(data, _key_acl) if (acl.whitelist, acl.blacklist) != (None, None))


def encode_key_acls(acls: Iterable[KeyAcl]) -> bytes:
    return write_records(
        {"site_id": acl.site_id, "whitelist": sorted(acl.whitelist)}
        if acl.whitelist is not None
        else {"site_id": acl.site_id, "blacklist": sorted(acl.blacklist or ())}
        for acl in acls
    )


def _admin_keyset(record: RecordReader) -> AdminKeyset:
    inner = record.raw("keyset")
    if not isinstance(inner, dict):
        raise record.wrong("keyset", "required member is missing or not an object")
    types = set()
    for name in record.items("allowed_types", str) or ():
        if name.upper() not in ClientType.__members__:
            raise record.wrong("allowed_types", "unknown client type")
        types.add(ClientType(name.upper()))
    return AdminKeyset(_keyset(RecordReader(inner, record.record)), frozenset(types))


def _keyset(record: RecordReader) -> Keyset:
    allowed = record.items("allowed_sites", int)
    return Keyset(
        keyset_id=KeysetId(record.integer("keyset_id")),
        site_id=SiteId(record.integer("site_id")),
        name=record.optional_text("name"),
        allowed_sites=None if allowed is None else frozenset(map(SiteId, allowed)),
        created=EpochSeconds(record.long("created")),
        enabled=record.boolean("enabled"),
        default=record.boolean("default"),
    )


def _site_key(record: RecordReader) -> SiteKey:
    return SiteKey(
        id=KeyId(record.integer("id")),
        site_id=SiteId(record.integer("site_id")),
        created=EpochSeconds(record.long("created")),
        activates=EpochSeconds(record.long("activates")),
        expires=EpochSeconds(record.long("expires")),
        secret=Secret(record.decoded("secret", KEY_LENGTH)),
    )


def _key_acl(record: RecordReader) -> KeyAcl:
    white, black = record.items("whitelist", int), record.items("blacklist", int)
    if white is not None and black is not None:
        raise record.wrong("whitelist", "both a whitelist and a blacklist")
    return KeyAcl(
        SiteId(record.integer("site_id")),
        None if white is None else frozenset(map(SiteId, white)),
        None if black is None else frozenset(map(SiteId, black)),
    )


SITES: Final[AdminStore[Site]] = AdminStore("sites", parse_sites, encode_sites, lambda site: site.id)
CLIENTS: Final[AdminStore[Client]] = AdminStore(
    "clients", parse_clients, encode_clients, lambda client: client.key_hash
)
ADMIN_KEYSETS: Final[AdminStore[AdminKeyset]] = AdminStore(
    "admin_keysets", parse_admin_keysets, encode_admin_keysets, lambda record: record.keyset.keyset_id
)
KEYSETS: Final[AdminStore[Keyset]] = AdminStore(
    "keysets", parse_keysets, encode_keysets, lambda keyset: keyset.keyset_id
)
KEYSET_KEYS: Final[AdminStore[KeysetKey]] = AdminStore(
    "keyset_keys", parse_keyset_keys, encode_keyset_keys, lambda key: key.id
)
SITE_KEYS: Final[AdminStore[SiteKey]] = AdminStore("keys", parse_site_keys, encode_site_keys, lambda key: key.id)
KEY_ACLS: Final[AdminStore[KeyAcl]] = AdminStore("keys_acl", parse_key_acls, encode_key_acls, lambda acl: acl.site_id)
OPERATORS: Final[AdminStore[OperatorKey]] = AdminStore(
    "operators", parse_operators, encode_operators, lambda key: key.key_hash
)
ENCLAVES: Final[AdminStore[Enclave]] = AdminStore("enclaves", parse_enclaves, encode_enclaves)
SERVICES: Final[AdminStore[Service]] = AdminStore(
    "services", parse_services, encode_services, lambda record: record.service_id
)
SERVICE_LINKS: Final[AdminStore[ServiceLink]] = AdminStore(
    "service_links", parse_service_links, encode_service_links, lambda link: link.key
)
KEYPAIRS: Final[AdminStore[ClientSideKeypair]] = AdminStore(
    "client_side_keypairs",
    parse_client_side_keypairs,
    encode_client_side_keypairs,
    lambda keypair: keypair.subscription_id,
)
PARTNERS: Final[AdminStore[Partner]] = AdminStore(
    "partners", parse_partners, encode_partners, lambda partner: partner.name
)
CLOUD_KEYS: Final[AdminStore[CloudKey]] = AdminStore(
    "cloud_encryption_keys", parse_cloud_keys, encode_cloud_keys, lambda k: k.id
)

# In the order their metadata is written: what others refer to comes first.
STORES: Final[tuple[AdminStore[Any], ...]] = (
    CLOUD_KEYS,
    SITES,
    ADMIN_KEYSETS,
    SITE_KEYS,
    KEYSET_KEYS,
    KEYSETS,
    KEY_ACLS,
    KEYPAIRS,
    SERVICES,
    SERVICE_LINKS,
    CLIENTS,
    OPERATORS,
    ENCLAVES,
    PARTNERS,
)
