"""Every store of the operator at one moment.

A snapshot never changes; `replace` makes the next one with a single store exchanged whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from uid2.bulk.tables import SaltTable
from uid2.protocol.api_keys import ApiKeyIndex
from uid2.protocol.clients import Client
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochMillis, SiteId
from uid2.protocol.keypairs import ClientSideKeypair
from uid2.protocol.keysets import KeyRing, Keyset, KeysetKey
from uid2.protocol.runtime_config import RuntimeConfig
from uid2.protocol.salts import SaltMetadata, select_snapshot
from uid2.protocol.services import Service, ServiceLink
from uid2.protocol.sites import Site

REQUIRED: tuple[str, ...] = ("clients", "keysets", "keyset_keys", "salts", "runtime_config")


@dataclass(frozen=True, slots=True)
class SaltSnapshot:
    """In force while `effective <= t < expires`, in milliseconds."""

    effective: EpochMillis
    expires: EpochMillis
    table: SaltTable = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class SaltSnapshots:
    """All snapshots of one metadata document, ascending by `effective`."""

    metadata: SaltMetadata
    snapshots: tuple[SaltSnapshot, ...]

    @property
    def first_level(self) -> str:
        """The first-level salt, a text."""
        return self.metadata.first_level

    def select(self, at: EpochMillis) -> SaltSnapshot:
        """The snapshot in use; there is always one, possibly expired."""
        return select_snapshot(self.snapshots, at)

    def expired(self, at: EpochMillis) -> bool:
        """Whether the snapshot in use ended before `at`."""
        return self.select(at).expires < at


@dataclass(frozen=True, slots=True)
class OperatorSnapshot:
    """`service_links` by `<service id>_<link id>`, `keypairs` by subscription id, `versions` by store."""

    clients: ApiKeyIndex[Client] = field(repr=False)
    key_ring: KeyRing = field(repr=False)
    salts: SaltSnapshots
    runtime_config: RuntimeConfig
    sites: Mapping[SiteId, Site] = field(default_factory=dict, repr=False)
    services: Mapping[int, Service] = field(default_factory=dict, repr=False)
    service_links: Mapping[str, ServiceLink] = field(default_factory=dict, repr=False)
    keypairs: Mapping[str, ClientSideKeypair] = field(default_factory=dict, repr=False)
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def assemble(cls, records: Mapping[str, Any], versions: Mapping[str, int] | None = None) -> "OperatorSnapshot":
        """The snapshot of the records by store name; StoreUnavailableError when a required store is absent."""
        missing = [store for store in REQUIRED if store not in records]
        if missing:
            raise StoreUnavailableError(
                f"not loaded yet: {', '.join(missing)}", next_step="wait for the first load of these stores"
            )
        snapshot = cls(
            clients=ApiKeyIndex(records["clients"]),
            key_ring=KeyRing(records["keysets"], records["keyset_keys"]),
            salts=records["salts"],
            runtime_config=records["runtime_config"],
            versions=dict(versions or {}),
        )
        for store in ("sites", "services", "service_links", "client_side_keypairs"):
            if store in records:
                snapshot = snapshot.replace(store, records[store])
        return snapshot

    def replace(self, store: str, records: Any, version: int | None = None) -> "OperatorSnapshot":
        """The same with one store exchanged."""
        versions = self.versions if version is None else {**self.versions, store: version}
        return replace(self, versions=versions, **self._members(store, records))

    def _members(self, store: str, records: Any) -> dict[str, Any]:
        keysets: tuple[Keyset, ...] = tuple(self.key_ring.keysets)
        keys: tuple[KeysetKey, ...] = tuple(self.key_ring.keys)
        match store:
            case "clients":
                return {"clients": ApiKeyIndex(records)}
            case "keysets":
                return {"key_ring": KeyRing(records, keys)}
            case "keyset_keys":
                return {"key_ring": KeyRing(keysets, records)}
            case "salts" | "runtime_config":
                return {store: records}
            case "sites":
                return {"sites": {site.id: site for site in records}}
            case "services":
                return {"services": {service.service_id: service for service in records}}
            case "service_links":
                return {"service_links": {link.key: link for link in records}}
            case "client_side_keypairs":
                return {"keypairs": {keypair.subscription_id: keypair for keypair in records}}
        return {}
