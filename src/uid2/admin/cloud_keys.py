"""Cloud encryption keys: the keys of per-site files (core chapter, 11.10)."""

from typing import Final

from uid2.admin.change import Change
from uid2.admin.records import CLOUD_KEYS, OPERATORS
from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.ids import EpochSeconds, SiteId
from uid2.protocol.secret import Secret

KEY_LENGTH: Final = 32
ROTATION_DELAY_SECONDS: Final = 3600
KEPT_PER_SITE: Final = 10


def backfill_cloud_keys(change: Change) -> list[CloudKey]:
    """A key, active at once, for each site that has an operator key and no cloud key."""
    have = {key.site_id for key in change.records(CLOUD_KEYS)}
    return _add(change, [site for site in operator_sites(change) if site not in have], 0)


def rotate_cloud_keys(change: Change) -> list[CloudKey]:
    """A new key for each site with an operator, active in an hour; besides it the ten latest of the site are kept."""
    sites = operator_sites(change)
    kept: list[CloudKey] = []
    for site in sites:
        of_site = [key for key in change.records(CLOUD_KEYS) if key.site_id == site]
        kept += sorted(of_site, key=lambda key: (key.activates, key.id))[-KEPT_PER_SITE:]
    highest = _highest_id(change)
    change.replace(CLOUD_KEYS, sorted(kept, key=lambda key: key.id))
    return _add(change, sites, ROTATION_DELAY_SECONDS, highest)


def active_cloud_key(change: Change, site_id: SiteId) -> CloudKey | None:
    """The key that files of a site are written with: of those that are active the one created last (8.4)."""
    active = [k for k in change.records(CLOUD_KEYS) if k.site_id == site_id and k.activates <= change.now]
    return max(active, key=lambda key: (key.created, key.id), default=None)


def operator_sites(change: Change) -> list[SiteId]:
    """Sites with an operator key, disabled ones included."""
    return sorted({record.site_id for record in change.records(OPERATORS) if record.site_id is not None})


def _add(change: Change, sites: list[SiteId], delay: int, highest: int | None = None) -> list[CloudKey]:
    first = (_highest_id(change) if highest is None else highest) + 1
    added = []
    for number, site in enumerate(sites, start=first):
        secret = change.draw(KEY_LENGTH)
        added.append(
            CloudKey(number, site, EpochSeconds(change.now + delay), change.now, Secret(secret), GcmKey(secret))
        )
    change.replace(CLOUD_KEYS, (*change.records(CLOUD_KEYS), *added))
    return added


def _highest_id(change: Change) -> int:
    return max((key.id for key in change.records(CLOUD_KEYS)), default=0)
