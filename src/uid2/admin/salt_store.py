"""The salt snapshots of a universe: rotate, rebuild, list (core chapter, 11.5)."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.salt_rotation import DAY_MS, SNAPSHOT_LIFETIME_DAYS, SaltRows, rotate
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import (
    SaltMetadata,
    SaltSnapshotEntry,
    encode_salt_metadata,
    parse_salt_lines,
    parse_salt_metadata,
    select_snapshot,
)

SALTS_METADATA: Final = "salts/metadata.json"
SNAPSHOT_PREFIX: Final = "salts/salts.txt."
# Files of snapshots that began this long before the oldest one still listed have no readers.
KEPT_DAYS: Final = 14
_EFFECTIVE: Final = re.compile(r"\.txt\.(\d+)")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Times in epoch milliseconds."""

    effective: EpochMillis
    expires: EpochMillis
    salts: int
    oldest_update: int
    newest_update: int
    location: str


def rotate_salts(change: Change, target: EpochMillis, fraction: Fraction) -> int:
    """A snapshot that begins at `target` (00:00 UTC) and lasts 7 days; gives the number of buckets with a new salt.

    RefusedError: a snapshot that begins then or later exists, no bucket may be rotated on that day, a wrong fraction.
    """
    if not 0 < fraction <= 1:
        raise RefusedError("the fraction of buckets must be above 0 and at most 1")
    metadata = salt_metadata(change)
    base = metadata.salts[-1]
    if target <= base.effective:
        raise RefusedError(
            "cannot create a new salt snapshot with effective timestamp equal or prior to that of an existing snapshot",
            next_step="name a later date; `uid2 admin salt snapshots` lists what there is",
        )
    rotated = rotate(
        read_rows(change, base), target, fraction, change.draw, with_keys=change.settings.enable_v4_raw_uid
    )
    if not rotated.picked:
        raise RefusedError(
            "all refreshable salts are below min rotation age",
            next_step="rotate for another date, or prolong the salts in force: uid2 admin salt rebuild",
        )
    _add(change, metadata, rotated.rows, target)
    return len(rotated.picked)


def rebuild_salts(change: Change) -> Snapshot:
    """The salts in force in a new snapshot, from now on for 7 days; no bucket changes."""
    metadata = salt_metadata(change)
    rows = read_rows(change, select_snapshot(metadata.salts, change.now_ms))
    entry = _add(change, metadata, rows, change.now_ms)
    return _described(entry, rows)


def snapshots(change: Change) -> list[Snapshot]:
    return [_described(entry, read_rows(change, entry)) for entry in salt_metadata(change).salts]


def salt_metadata(change: Change) -> SaltMetadata:
    document = change.document(SALTS_METADATA)
    if document is None:
        raise not_found("the salts of this store", "make a universe: uid2 admin init")
    return parse_salt_metadata(document, change.now_ms)


def read_rows(change: Change, entry: SaltSnapshotEntry) -> SaltRows:
    """RefusedError: the file is missing or has another number of rows than the metadata says. StoreFormatError."""
    data = change.content(entry.location)
    if data is None:
        raise RefusedError(f"the salts file {entry.location} is missing", next_step="restore it from a copy")
    rows = SaltRows.of(parse_salt_lines(data))
    if len(rows) != entry.size:
        raise RefusedError(
            f"{entry.location} has {len(rows)} rows, the metadata says {entry.size}",
            next_step="restore the file from a copy of the store",
        )
    return rows


def _add(change: Change, metadata: SaltMetadata, rows: SaltRows, effective: EpochMillis) -> SaltSnapshotEntry:
    location = change.free_name(f"{SNAPSHOT_PREFIX}{effective}")
    change.put_content(location, rows.lines())
    expires = EpochMillis(effective + SNAPSHOT_LIFETIME_DAYS * DAY_MS)
    entry = SaltSnapshotEntry(effective, expires, location, len(rows))
    listed = _kept([*metadata.salts, entry], change.now_ms)
    version = change.next_version(metadata.version)
    fresh = SaltMetadata(
        version=version,
        generated=int(change.now),
        first_level=metadata.first_level,
        id_prefix=metadata.id_prefix,
        id_secret=metadata.id_secret,
        salts=tuple(listed),
    )
    change.put_document(SALTS_METADATA, encode_salt_metadata(fresh), "salts", version)
    oldest = min(kept.effective for kept in listed) - KEPT_DAYS * DAY_MS
    for path in change.list("salts/"):
        found = _EFFECTIVE.search(path)
        if found and int(found[1]) < oldest:
            change.remove_content(path)
    return entry


def _kept(entries: list[SaltSnapshotEntry], now: EpochMillis) -> list[SaltSnapshotEntry]:
    """Those that have not expired, and of those in force only the newest."""
    alive = sorted((entry for entry in entries if entry.expires > now), key=lambda entry: entry.effective)
    newest = max((entry.effective for entry in alive if entry.effective <= now), default=None)
    return [entry for entry in alive if entry.effective > now or entry.effective == newest]


def _described(entry: SaltSnapshotEntry, rows: SaltRows) -> Snapshot:
    return Snapshot(
        entry.effective, entry.expires, len(rows), min(rows.last_updated), max(rows.last_updated), entry.location
    )
