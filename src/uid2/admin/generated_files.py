"""Files made from the global stores for single sites: `site/<n>/`, `encrypted/<n>_public/`, `…_private/` (8.5, 11.11).

Sites with a PUBLIC operator get encrypted copies of everything; sites with a PRIVATE one what is their own, plain and
encrypted.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from uid2.admin.change import Change
from uid2.admin.cloud_keys import active_cloud_key
from uid2.admin.errors import RefusedError
from uid2.admin.keysets import SPECIAL, derive_keysets
from uid2.admin.records import (
    CLIENTS,
    KEY_ACLS,
    KEYPAIRS,
    KEYSET_KEYS,
    KEYSETS,
    OPERATORS,
    SITE_KEYS,
    SITES,
    AdminStore,
)
from uid2.admin.salt_store import SALTS_METADATA
from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.encrypted_file import encrypt_store_file
from uid2.protocol.ids import FALLBACK_SITE, Role, SiteId
from uid2.protocol.keysets import Keyset
from uid2.protocol.operators import OperatorType
from uid2.protocol.store_json import parse_json, write_json

IV_LENGTH: Final = 12
KEY_ID: Final = "key_id"
_FILE_NAME: Final = re.compile(r"[^/]+\Z")

# In the order of writing.
SPLIT: Final[tuple[AdminStore[Any], ...]] = (
    SITES,
    CLIENTS,
    SITE_KEYS,
    KEY_ACLS,
    KEYPAIRS,
    KEYSETS,
    KEYSET_KEYS,
)


@dataclass(frozen=True, slots=True)
class _Target:
    site: SiteId
    private: bool

    @property
    def encrypted_scope(self) -> str:
        return f"encrypted/{self.site}_{'private' if self.private else 'public'}/"


def refresh_private_sites(change: Change) -> int:
    """The `site/` files, after the keysets; gives the number of sites."""
    derive_keysets(change)
    targets = [target for target in _targets(change) if target.private]
    for target in targets:
        for store in _present(change):
            if store is not KEYPAIRS or change.settings.private_operator_cstg:
                change.replace(store, _own(change, store, target.site), f"site/{target.site}/")
    return len(targets)


def sync_encrypted_files(change: Change) -> int:
    """Every `encrypted/` file whose source or key has changed; gives the number of scopes.

    RefusedError: a site with an operator has no cloud encryption key that is active.
    """
    targets = _targets(change)
    for target in targets:
        key = active_cloud_key(change, target.site)
        if key is None:
            raise RefusedError(
                f"site {target.site} has an operator and no active cloud encryption key",
                next_step="make one: uid2 admin cloud-key backfill",
            )
        for store in _present(change):
            if store is KEYPAIRS and target.private and not change.settings.private_operator_cstg:
                continue
            records = _own(change, store, target.site) if target.private else change.records(store)
            _encrypt_store(change, store, target, records, key)
        _encrypt_salts(change, target, key)
    return len(targets)


def _targets(change: Change) -> list[_Target]:
    found = {
        (record.site_id, record.operator_type is OperatorType.PRIVATE)
        for record in change.records(OPERATORS)
        if record.site_id is not None
    }
    return [_Target(site, private) for site, private in sorted(found)]


def _present(change: Change) -> list[AdminStore[Any]]:
    return [store for store in SPLIT if change.metadata(store) is not None]


def _own(change: Change, store: AdminStore[Any], site: SiteId) -> Iterable[Any]:
    """What a private operator of `site` gets of a store (8.5)."""
    keeps: dict[str, Callable[[Any], bool]] = {
        SITES.name: lambda record: record.id in (site, FALLBACK_SITE),
        CLIENTS.name: lambda record: record.site_id == site and not record.disabled,
        KEYPAIRS.name: lambda record: record.site_id == site,
        KEYSETS.name: lambda record: _readable(record, site),
        KEYSET_KEYS.name: lambda record: record.keyset_id in readable,
        SITE_KEYS.name: lambda record: record.site_id in key_sites,
        KEY_ACLS.name: lambda record: (
            record.site_id == site
            or (record.whitelist is not None and site in record.whitelist)
            or (record.blacklist is not None and site not in record.blacklist)
        ),
    }
    readable = {keyset.keyset_id for keyset in change.records(KEYSETS) if _readable(keyset, site)}
    key_sites = _key_sites(change, site)
    return [record for record in change.records(store) if keeps[store.name](record)]


def _readable(keyset: Keyset, site: SiteId) -> bool:
    if keyset.site_id == site or keyset.keyset_id in SPECIAL:
        return True
    return keyset.allowed_sites is not None and site in keyset.allowed_sites


def _key_sites(change: Change, site: SiteId) -> set[int]:
    """Sites whose legacy keys a private operator gets: special ones, its own, and those its ID_READERs may read."""
    sites: set[int] = {*map(int, SPECIAL), site}
    if any(client.site_id == site and Role.ID_READER in client.roles for client in change.records(CLIENTS)):
        acls = {acl.site_id: acl for acl in change.records(KEY_ACLS)}
        for key in change.records(SITE_KEYS):
            acl = acls.get(key.site_id)
            if acl is None or acl.permits(site):
                sites.add(key.site_id)
    return sites


def _encrypt_store(
    change: Change, store: AdminStore[Any], target: _Target, records: Iterable[Any], key: CloudKey
) -> None:
    source = change.metadata(store)
    assert source is not None, "only stores that are present"
    scope = target.encrypted_scope
    current = change.metadata(store, scope)
    if current is not None and (current.version, current.raw.get(KEY_ID)) == (source.version, key.id):
        return
    sealed = encrypt_store_file(store.encode(records), key, change.draw(IV_LENGTH))
    change.replace_content(store.name, scope, sealed, version=source.version, extra={KEY_ID: key.id})


def _encrypt_salts(change: Change, target: _Target, key: CloudKey) -> None:
    """All snapshots, each under a name that tells its key."""
    document = change.document(SALTS_METADATA)
    if document is None:
        return
    path = f"salts/{target.encrypted_scope}metadata.json"
    metadata = parse_json(document)
    before = change.document(path)
    if before is not None:
        old = parse_json(before)
        if (old.get("version"), old.get(KEY_ID)) == (metadata["version"], key.id):
            return
    snapshots = []
    for snapshot in metadata["salts"]:
        name = _FILE_NAME.search(snapshot["location"])
        location = f"salts/{target.encrypted_scope}{name[0] if name else 'salts.txt'}.key{key.id}"
        if change.content(location) is None:
            plain = change.content(snapshot["location"])
            if plain is None:
                raise RefusedError(
                    f"the salts file {snapshot['location']} is missing", next_step="restore it from a copy of the store"
                )
            change.put_content(location, encrypt_store_file(plain, key, change.draw(IV_LENGTH)))
        snapshots.append({**snapshot, "location": location})
    sealed = {**metadata, "salts": snapshots, KEY_ID: key.id}
    change.put_document(path, write_json(sealed), f"salts/{target.encrypted_scope}".rstrip("/"), metadata["version"])
