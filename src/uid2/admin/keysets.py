"""Keysets and sharing lists (core chapter, 11.3)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.keys import add_key
from uid2.admin.records import ADMIN_KEYSETS, CLIENTS, KEYSETS, SITES, AdminKeyset
from uid2.protocol.ids import FALLBACK_KEYSET, MASTER_KEYSET, REFRESH_KEYSET, KeysetId, Role, SiteId
from uid2.protocol.keysets import Keyset
from uid2.protocol.sites import ClientType

HIGHEST_RESERVED: Final = 3
SPECIAL: Final = (MASTER_KEYSET, REFRESH_KEYSET, FALLBACK_KEYSET)


@dataclass(frozen=True, slots=True)
class SharingList:
    """`allowed_sites` None: no list. `digest` names this state, for a writer who must not overwrite another."""

    keyset_id: KeysetId
    allowed_sites: tuple[SiteId, ...] | None
    allowed_types: tuple[ClientType, ...]
    digest: str


def ensure_keyset(change: Change, site_id: SiteId, roles: frozenset[Role]) -> KeysetId | None:
    """The default keyset that a client with `roles` needs; made with its first key when the site has none."""
    for record in change.records(ADMIN_KEYSETS):
        if record.keyset.site_id == site_id:
            return record.keyset.keyset_id
    if Role.GENERATOR in roles:
        allowed: frozenset[SiteId] | None = None
    elif Role.SHARER in roles:
        allowed = frozenset()
    else:
        return None
    return _create(change, site_id, "", allowed, frozenset())


def set_keyset(
    change: Change,
    *,
    keyset_id: int | None = None,
    site_id: int | None = None,
    name: str = "",
    allowed_sites: Iterable[int] | None = None,
    allowed_types: Iterable[ClientType] = (),
) -> KeysetId:
    """Create the keyset of a site that has none, or replace one; either adds a key to it."""
    if (keyset_id is None) == (site_id is None):
        raise RefusedError(
            "exactly one of keyset and site is needed", next_step="name a keyset to replace it, or a site"
        )
    types = frozenset(allowed_types)
    if site_id is not None:
        owner = _ordinary_site(change, site_id)
        if any(record.keyset.site_id == owner for record in change.records(ADMIN_KEYSETS)):
            raise RefusedError(f"site {owner} has a keyset already", next_step="name the keyset instead of the site")
        return _create(change, owner, name, _listed(allowed_sites, owner), types)
    record = find_keyset(change, keyset_id or 0)
    return _replace(change, record, name, _listed(allowed_sites, record.keyset.site_id), types)


def sharing_list(change: Change, site_id: int) -> SharingList:
    """Of the default keyset of a site."""
    for record in change.records(ADMIN_KEYSETS):
        if record.keyset.site_id == site_id and record.keyset.default:
            return _sharing_list(record)
    raise not_found(f"a keyset of site {site_id}", "make one: uid2 admin keyset set --site ID")


def set_sharing_list(
    change: Change,
    site_id: int,
    allowed_sites: Iterable[int] | None,
    allowed_types: Iterable[ClientType] = (),
    digest: str | None = None,
) -> SharingList:
    """`digest`: that of the list which the writer has seen; another one is refused with 409."""
    before = sharing_list(change, site_id)
    if digest is not None and digest != before.digest:
        raise RefusedError(
            "the sharing list has changed since it was read", status=409, next_step="read it again and decide anew"
        )
    record = find_keyset(change, before.keyset_id)
    _replace(
        change,
        record,
        record.keyset.name or "",
        _listed(allowed_sites, record.keyset.site_id),
        frozenset(allowed_types),
    )
    return sharing_list(change, site_id)


def related_keysets(change: Change, site_id: int) -> list[AdminKeyset]:
    """Keysets to rotate when the credentials of a site have leaked: every one that the site could read."""
    types: frozenset[ClientType] = frozenset()
    for site in change.records(SITES):
        if site.id == site_id:
            types = site.client_types
    reader = any(c.site_id == site_id and Role.ID_READER in c.roles for c in change.records(CLIENTS))
    return [
        record
        for record in change.records(ADMIN_KEYSETS)
        if record.keyset.site_id == site_id
        or (record.keyset.allowed_sites is not None and site_id in record.keyset.allowed_sites)
        or record.allowed_types & types
        or (record.keyset.allowed_sites is None and reader)
    ]


def find_keyset(change: Change, keyset_id: int) -> AdminKeyset:
    for record in change.records(ADMIN_KEYSETS):
        if record.keyset.keyset_id == keyset_id:
            return record
    raise not_found(f"keyset {keyset_id}", "list the keysets: uid2 admin keyset list")


def derive_keysets(change: Change) -> None:
    """keysets.json: the lists of admin_keysets.json with the sites of the allowed types (9.15)."""
    sites = change.records(SITES)

    def derived(record: AdminKeyset) -> Keyset:
        keyset = record.keyset
        if keyset.allowed_sites is None:
            return keyset
        by_type = {site.id for site in sites if site.client_types & record.allowed_types}
        allowed = frozenset((keyset.allowed_sites | by_type) - {keyset.site_id})
        return Keyset(
            keyset.keyset_id,
            keyset.site_id,
            keyset.name,
            allowed,
            keyset.created,
            keyset.enabled,
            keyset.default,
        )

    change.replace(KEYSETS, (derived(record) for record in change.records(ADMIN_KEYSETS)))


def create_special_keysets(change: Change) -> None:
    """Master, refresh and fallback publisher, where they are missing, each with a key that is active at once."""
    known = {record.keyset.keyset_id for record in change.records(ADMIN_KEYSETS)}
    for keyset_id, name in zip(SPECIAL, ("Master", "Refresh", "Fallback Publisher"), strict=True):
        if keyset_id not in known:
            keyset = Keyset(keyset_id, SiteId(int(keyset_id)), name, None, change.now, enabled=True, default=True)
            change.replace(ADMIN_KEYSETS, (*change.records(ADMIN_KEYSETS), AdminKeyset(keyset)))
            add_key(change, keyset, activates_in=0)
    derive_keysets(change)


def _create(
    change: Change, owner: SiteId, name: str, allowed: frozenset[SiteId] | None, types: frozenset[ClientType]
) -> KeysetId:
    records = change.records(ADMIN_KEYSETS)
    highest = max((int(record.keyset.keyset_id) for record in records), default=HIGHEST_RESERVED)
    keyset_id = KeysetId(max(highest, HIGHEST_RESERVED) + 1)
    keyset = Keyset(keyset_id, owner, name, allowed, change.now, enabled=True, default=True)
    change.replace(ADMIN_KEYSETS, (*records, AdminKeyset(keyset, types)))
    derive_keysets(change)
    add_key(change, keyset, activates_in=0)
    return keyset_id


def _replace(
    change: Change,
    before: AdminKeyset,
    name: str,
    allowed: frozenset[SiteId] | None,
    types: frozenset[ClientType],
) -> KeysetId:
    old = before.keyset
    if old.keyset_id in SPECIAL:
        raise RefusedError(f"keyset {old.keyset_id} belongs to the system", next_step="name an ordinary keyset")
    keyset = Keyset(old.keyset_id, old.site_id, name, allowed, change.now, enabled=True, default=True)
    change.replace(
        ADMIN_KEYSETS,
        (
            AdminKeyset(keyset, types) if record.keyset.keyset_id == old.keyset_id else record
            for record in change.records(ADMIN_KEYSETS)
        ),
    )
    derive_keysets(change)
    add_key(change, keyset)
    return keyset.keyset_id


def _ordinary_site(change: Change, site_id: int) -> SiteId:
    if site_id <= FALLBACK_KEYSET or not any(site.id == site_id for site in change.records(SITES)):
        raise not_found(f"site {site_id}", "list the sites: uid2 admin site list")
    return SiteId(site_id)


def _listed(allowed: Iterable[int] | None, owner: SiteId) -> frozenset[SiteId] | None:
    if allowed is None:
        return None
    sites = list(allowed)
    if len(set(sites)) != len(sites):
        raise RefusedError("a site stands twice in the list")
    return frozenset(SiteId(site) for site in sites if site != owner)


def _sharing_list(record: AdminKeyset) -> SharingList:
    allowed = record.keyset.allowed_sites
    sites = None if allowed is None else tuple(sorted(allowed))
    types = tuple(kind for kind in ClientType if kind in record.allowed_types)
    digest = hashlib.sha256(repr((sites, [kind.value for kind in types])).encode()).hexdigest()[:16]
    return SharingList(record.keyset.keyset_id, sites, types, digest)
