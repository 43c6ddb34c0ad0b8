"""Encryption keys and their rotation (core chapter, 11.4). Every key stands in keyset_keys.json and in keys.json."""

from collections.abc import Iterable
from typing import Final

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.records import ADMIN_KEYSETS, KEYSET_KEYS, SITE_KEYS, SiteKey
from uid2.admin.settings import DAY_SECONDS, UniverseSettings
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.ids import FALLBACK_SITE, MASTER_SITE, REFRESH_SITE, EpochSeconds, KeyId, SiteId
from uid2.protocol.keysets import KEY_LENGTH, Keyset, KeysetKey
from uid2.protocol.secret import Secret

MAX_KEY_ID: Final = "max_key_id"


def add_key(change: Change, keyset: Keyset, activates_in: int | None = None) -> KeysetKey:
    """A new key of a keyset; `activates_in` in seconds, by default the delay of its kind."""
    delay, period = _times(change.settings, keyset.site_id)
    activates = EpochSeconds(change.now + (delay if activates_in is None else activates_in))
    secret = change.draw(KEY_LENGTH)
    keys = change.records(KEYSET_KEYS)
    key = KeysetKey(
        id=KeyId(_highest_id(change) + 1),
        keyset_id=keyset.keyset_id,
        created=change.now,
        activates=activates,
        expires=EpochSeconds(activates + period),
        secret=Secret(secret),
        gcm=GcmKey(secret),
    )
    mirrored = SiteKey(key.id, keyset.site_id, key.created, key.activates, key.expires, key.secret)
    highest = {MAX_KEY_ID: int(key.id)}
    change.replace(KEYSET_KEYS, (*keys, key), extra=highest)
    change.replace(SITE_KEYS, (*change.records(SITE_KEYS), mirrored), extra=highest)
    return key


def rotate_master(change: Change, min_age_seconds: int, *, force: bool = False) -> list[KeysetKey]:
    """The master key and the refresh key."""
    return _rotate(change, _of_sites(change, {MASTER_SITE, REFRESH_SITE}), min_age_seconds, force)


def rotate_site(change: Change, site_id: int, min_age_seconds: int, *, force: bool = False) -> list[KeysetKey]:
    keysets = _of_sites(change, {SiteId(site_id)}) if site_id >= FALLBACK_SITE else []
    if not keysets:
        raise not_found(f"a keyset of site {site_id}", "list the keysets: uid2 admin keyset list")
    return _rotate(change, keysets, min_age_seconds, force)


def rotate_all_sites(change: Change, min_age_seconds: int, *, force: bool = False) -> list[KeysetKey]:
    keysets = [r.keyset for r in change.records(ADMIN_KEYSETS) if r.keyset.site_id >= FALLBACK_SITE]
    return _rotate(change, keysets, min_age_seconds, force)


def rotate_keyset_key(change: Change, keyset_id: int, min_age_seconds: int, *, force: bool = False) -> list[KeysetKey]:
    keysets = [r.keyset for r in change.records(ADMIN_KEYSETS) if r.keyset.keyset_id == keyset_id]
    if not keysets:
        raise not_found(f"keyset {keyset_id}", "list the keysets: uid2 admin keyset list")
    return _rotate(change, keysets, min_age_seconds, force)


def _rotate(change: Change, keysets: Iterable[Keyset], min_age_seconds: int, force: bool) -> list[KeysetKey]:
    """One new key for each keyset whose latest one is older; one scheduled for later counts as recent."""
    if min_age_seconds <= 0:
        raise RefusedError("the minimum age must be above 0 seconds")
    latest: dict[int, int] = {}
    for key in change.records(KEYSET_KEYS):
        latest[key.keyset_id] = max(latest.get(key.keyset_id, key.activates), key.activates)
    due = change.now - min_age_seconds
    chosen = [keyset for keyset in keysets if force or latest.get(keyset.keyset_id, due - 1) < due]
    _drop_old(change)
    return [add_key(change, keyset) for keyset in chosen]


def _drop_old(change: Change) -> None:
    settings = change.settings
    if not settings.filter_key_over_cut_off_days:
        return
    owners = {r.keyset.keyset_id: r.keyset.site_id for r in change.records(ADMIN_KEYSETS)}
    kept = [
        key
        for key in change.records(KEYSET_KEYS)
        if key.expires + _cut_off_days(settings, owners.get(key.keyset_id, FALLBACK_SITE)) * DAY_SECONDS > change.now
    ]
    highest = {MAX_KEY_ID: _highest_id(change)}
    ids = {key.id for key in kept}
    change.replace(KEYSET_KEYS, kept, extra=highest)
    change.replace(SITE_KEYS, (key for key in change.records(SITE_KEYS) if key.id in ids), extra=highest)


def _of_sites(change: Change, sites: set[SiteId]) -> list[Keyset]:
    return [r.keyset for r in change.records(ADMIN_KEYSETS) if r.keyset.site_id in sites]


def _highest_id(change: Change) -> int:
    """The highest id ever given out, those of dropped keys included."""
    found = [int(key.id) for key in change.records(KEYSET_KEYS)]
    found += [int(key.id) for key in change.records(SITE_KEYS)]
    for store in (KEYSET_KEYS, SITE_KEYS):
        metadata = change.metadata(store)
        noted = None if metadata is None else metadata.raw.get(MAX_KEY_ID)
        if isinstance(noted, int):
            found.append(noted)
    return max(found, default=0)


def _times(settings: UniverseSettings, site_id: SiteId) -> tuple[int, int]:
    """Delay until a key of the site's kind activates, and how long it lives then; seconds."""
    if site_id < FALLBACK_SITE:
        return settings.master_key_activates_in_seconds, settings.master_key_expires_after_seconds
    return settings.site_key_activates_in_seconds, settings.site_key_expires_after_seconds


def _cut_off_days(settings: UniverseSettings, site_id: SiteId) -> int:
    if site_id == MASTER_SITE:
        return settings.master_key_rotation_cut_off_days
    if site_id == REFRESH_SITE:
        return settings.refresh_key_rotation_cut_off_days
    return settings.site_key_rotation_cut_off_days
