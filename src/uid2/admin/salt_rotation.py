"""Rotation of a salt snapshot (core chapter, 11.5): which buckets get new salts, and what every row becomes.

Rows are held as columns: a million rows are rotated without an object for each.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Final

from pybase64 import b64encode

from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import LARGEST_KEY_ID, KeyMaterial, SaltBucket

DAY_MS: Final = 86_400_000
SALT_LENGTH: Final = 32
KEY_LENGTH: Final = 24
SNAPSHOT_LIFETIME_DAYS: Final = 7
PREVIOUS_DAYS: Final = 90
STEP_DAYS: Final = 30
# Ages that part the windows, the oldest first.
THRESHOLDS: Final = tuple(range(390, 0, -STEP_DAYS))
LARGEST_SHARE: Final = Fraction(4, 5)

Draw = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class SaltRows:
    """Columns of equal length, in row order; times in epoch milliseconds."""

    ids: "array[int]"
    last_updated: "array[int]"
    refresh_from: "array[int]"
    current: list[str | None] = field(repr=False)
    previous: list[str | None] = field(repr=False)
    current_key: list[KeyMaterial | None] = field(repr=False)
    previous_key: list[KeyMaterial | None] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, buckets: Iterable[SaltBucket]) -> "SaltRows":
        rows = cls(array("q"), array("q"), array("q"), [], [], [], [])
        for bucket in buckets:
            rows.ids.append(bucket.id)
            rows.last_updated.append(bucket.last_updated)
            rows.refresh_from.append(bucket.refresh_from)
            rows.current.append(bucket.current_salt)
            rows.previous.append(bucket.previous_salt)
            rows.current_key.append(bucket.current_key)
            rows.previous_key.append(bucket.previous_key)
        return rows

    def lines(self) -> bytes:
        """The file. A last update that is a multiple of 1000 ms is written one later."""
        columns = zip(
            self.ids,
            self.last_updated,
            self.current,
            self.refresh_from,
            self.previous,
            map(_key_columns, self.current_key),
            map(_key_columns, self.previous_key),
            strict=True,
        )
        return "".join(
            f"{number},{updated + (updated % 1000 == 0)},{current or ''},{refresh},{previous or ''},{key},{old}\n"
            for number, updated, current, refresh, previous, key, old in columns
        ).encode()


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new rows, and the indexes of those that got a new salt, ascending."""

    rows: SaltRows
    picked: tuple[int, ...] = field(repr=False)


def rotate(rows: SaltRows, target: EpochMillis, fraction: Fraction, draw: Draw, *, with_keys: bool = False) -> Rotated:
    """The rows as of `target` (00:00 UTC); nothing is picked when every refreshable row is too young.

    `fraction` is the share of buckets to rotate; `with_keys` gives key material (v4 raw UIDs) instead of a salt.
    """
    picked = choose(rows, target, ceil(len(rows) * fraction), draw)
    if not picked:
        return Rotated(rows, ())
    ages = {updated: (target - updated // DAY_MS * DAY_MS) // DAY_MS for updated in set(rows.last_updated)}
    due = {updated: next_refresh(updated, age) for updated, age in ages.items()}
    young = {updated for updated, age in ages.items() if age < PREVIOUS_DAYS}
    updated = rows.last_updated
    fresh = SaltRows(
        ids=rows.ids,
        last_updated=array("q", updated),
        refresh_from=array("q", [due[moment] for moment in updated]),
        current=list(rows.current),
        previous=[salt if moment in young else None for salt, moment in zip(rows.previous, updated, strict=True)],
        current_key=list(rows.current_key),
        previous_key=[key if moment in young else None for key, moment in zip(rows.previous_key, updated, strict=True)],
    )
    key_id = next_key_id(rows)
    salts = draw(SALT_LENGTH * len(picked))
    keys = draw(KEY_LENGTH * len(picked)) if with_keys else b""
    for place, row in enumerate(picked):
        salt = b64encode(salts[SALT_LENGTH * place : SALT_LENGTH * (place + 1)]).decode()
        fresh.last_updated[row] = target
        fresh.previous[row], fresh.previous_key[row] = rows.current[row], rows.current_key[row]
        if with_keys:
            key = b64encode(keys[KEY_LENGTH * place : KEY_LENGTH * (place + 1)]).decode()
            fresh.current[row] = None
            fresh.current_key[row] = KeyMaterial((key_id + place) % (LARGEST_KEY_ID + 1), key, salt)
        else:
            fresh.current[row], fresh.current_key[row] = salt, None
    return Rotated(fresh, picked)


def choose(rows: SaltRows, target: EpochMillis, wanted: int, draw: Draw) -> tuple[int, ...]:
    """Indexes of at most `wanted` rows that are due on the day of `target`, from the oldest window on, at random.

    A window gives at most four fifths of what is wanted, so that younger rows have their turn too.
    """
    share = int(wanted * LARGEST_SHARE)
    windows: dict[int, list[int]] = {threshold: [] for threshold in THRESHOLDS}
    for row, (refresh, updated) in enumerate(zip(rows.refresh_from, rows.last_updated, strict=True)):
        if refresh // DAY_MS * DAY_MS == target:
            window = _window(target, updated)
            if window is not None:
                windows[window].append(row)
    picked: list[int] = []
    for threshold in THRESHOLDS:
        picked += _sample(windows[threshold], min(wanted - len(picked), share), draw)
    return tuple(sorted(picked))


def next_refresh(last_updated: int, age_days: int) -> int:
    """The day of the last update and the next multiple of 30 days after the age."""
    return last_updated // DAY_MS * DAY_MS + STEP_DAYS * DAY_MS * (age_days // STEP_DAYS + 1)


def next_key_id(rows: SaltRows) -> int:
    """Follows the highest id among the keyed rows that were updated last; ids run from 0 to 16777215 and begin anew."""
    latest, highest = -1, LARGEST_KEY_ID
    for key, updated in zip(rows.current_key, rows.last_updated, strict=True):
        if key is not None and updated >= latest:
            highest = key.id if updated > latest else max(highest, key.id)
            latest = updated
    return (highest + 1) % (LARGEST_KEY_ID + 1)


def _window(target: int, updated: int) -> int | None:
    """The highest threshold that the row is older than."""
    age_ms = target - updated
    if age_ms <= STEP_DAYS * DAY_MS:
        return None
    return min(THRESHOLDS[0], (age_ms - 1) // (STEP_DAYS * DAY_MS) * STEP_DAYS)


def _sample(rows: Sequence[int], count: int, draw: Draw) -> list[int]:
    """`count` of them, each set as likely as any other."""
    if count <= 0 or not rows:
        return []
    if count >= len(rows):
        return list(rows)
    lots = draw(8 * len(rows))
    order = sorted(range(len(rows)), key=lambda place: lots[8 * place : 8 * place + 8])
    return [rows[place] for place in order[:count]]


def _key_columns(key: KeyMaterial | None) -> str:
    return ",," if key is None else f"{key.id},{key.key},{key.salt or ''}"
