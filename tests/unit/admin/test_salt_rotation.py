"""Salt rotation (core chapter, 11.5): each rule, and more than a year of days."""

import random
from array import array
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from admin_stage import NOW, TODAY, Ticking, new_universe
from hypothesis import given
from hypothesis import strategies as st

from uid2.admin.errors import RefusedError
from uid2.admin.salt_rotation import (
    DAY_MS,
    LARGEST_KEY_ID,
    SaltRows,
    choose,
    next_key_id,
    next_refresh,
    rotate,
)
from uid2.admin.salt_store import rebuild_salts, rotate_salts, salt_metadata, snapshots
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import KeyMaterial, SaltBucket, format_salt_line, parse_salt_lines

TARGET = EpochMillis(TODAY)


def draws(seed: int = 1) -> Any:
    return random.Random(seed).randbytes


def rows_of_ages(*ages: int, previous: bool = True) -> SaltRows:
    """Rows last updated so many days before the target, all of them due on it where the age is a multiple of 30."""
    return SaltRows.of(
        SaltBucket(
            id=n,
            last_updated=EpochMillis(TARGET - age * DAY_MS + 1),
            current_salt=f"current {n}",
            refresh_from=EpochMillis(next_refresh(TARGET - age * DAY_MS, age - 1)),
            previous_salt=f"previous {n}" if previous else None,
        )
        for n, age in enumerate(ages)
    )


def test_a_rotated_row_and_one_that_stays() -> None:
    before = rows_of_ages(60, 61, 89, 90, 91)

    after = rotate(before, TARGET, Fraction(1), draws()).rows

    picked = {0, 3}
    assert [moment == TARGET for moment in after.last_updated] == [row in picked for row in range(5)]
    assert after.previous == ["current 0", "previous 1", "previous 2", "current 3", None]
    assert after.current[1] == "current 1"
    assert after.current[0] not in (None, "current 0")
    assert [(due - TARGET) // DAY_MS for due in after.refresh_from[:3]] == [30, 29, 1]


def test_only_rows_older_than_thirty_days_that_are_due_on_the_day() -> None:
    rows = rows_of_ages(30, 60, 61, 90, 390, 420)

    assert choose(rows, TARGET, 6, draws()) == (1, 3, 4, 5)
    assert choose(rows, EpochMillis(TARGET + DAY_MS), 6, draws()) == ()


def test_the_oldest_first_and_no_window_takes_everything() -> None:
    rows = rows_of_ages(*[420] * 20, *[60] * 20)

    picked = choose(rows, TARGET, 10, draws())

    assert Counter(row < 20 for row in picked) == {True: 8, False: 2}
    assert choose(rows, TARGET, 10, draws(2)) != picked


def test_a_window_just_reached_counts_as_the_younger_one() -> None:
    """A last update is written one millisecond late, so 390 days to the day are not yet over."""
    rows = rows_of_ages(*[390] * 10, *[420] * 10)

    assert Counter(row >= 10 for row in choose(rows, TARGET, 10, draws())) == {True: 8, False: 2}


def test_keys_in_place_of_salts() -> None:
    before = rows_of_ages(60, 90, 120)
    first = rotate(before, TARGET, Fraction(1), draws(), with_keys=True).rows
    keys = [key for key in first.current_key if key is not None]

    assert [key.id for key in keys] == [0, 1, 2]
    for row, key in enumerate(first.current_key):
        if key is not None:
            assert (first.current[row], first.previous[row]) == (None, f"current {row}")
            assert len(key.key) == 32
            assert key.salt is not None
            assert len(key.salt) == 44


@pytest.mark.parametrize(("last", "following"), [(None, 0), (7, 8), (LARGEST_KEY_ID, 0)])
def test_the_next_key_id(last: int | None, following: int) -> None:
    rows = rows_of_ages(60, 90)
    rows.current_key[0] = None if last is None else KeyMaterial(last, "k", "s")
    # An older row with a higher id: ids have begun anew since.
    rows.current_key[1] = None if last is None else KeyMaterial(LARGEST_KEY_ID, "k", "s")

    assert next_key_id(rows) == following


MATERIAL = st.none() | st.builds(
    KeyMaterial, st.integers(0, LARGEST_KEY_ID), st.text("abc=", min_size=1), st.none() | st.text("xyz", min_size=1)
)
SALT = st.none() | st.text("abcABC+/=", min_size=1)


@given(
    st.lists(
        st.builds(
            SaltBucket,
            st.integers(0, 2**31 - 1),
            st.integers(0, 2**40),
            SALT,
            st.integers(0, 2**40),
            SALT,
            MATERIAL,
            MATERIAL,
        )
    )
)
def test_lines_are_those_of_the_codec(buckets: list[SaltBucket]) -> None:
    written = list(parse_salt_lines(SaltRows.of(buckets).lines()))

    late = [
        SaltBucket(
            b.id,
            b.last_updated if b.last_updated % 1000 else EpochMillis(b.last_updated + 1),
            b.current_salt,
            b.refresh_from,
            b.previous_salt,
            b.current_key,
            b.previous_key,
        )
        for b in buckets
    ]
    assert [format_salt_line(b) for b in written] == [format_salt_line(b) for b in late]


@pytest.mark.slow
@pytest.mark.parametrize("with_keys", [False, True])
def test_four_hundred_days(with_keys: bool) -> None:
    """65,536 buckets: ages within the rules, previous salts for exactly 90 days, none lost."""
    size, fraction, days = 65_536, Fraction(1, 300), 400
    draw = draws(5)
    ages = [value % 360 for value in random.Random(6).choices(range(360), k=size)]
    rows = SaltRows(
        array("q", range(size)),
        array("q", [TARGET - age * DAY_MS + 1 for age in ages]),
        array("q", [next_refresh(TARGET - age * DAY_MS, age) for age in ages]),
        [f"salt {n}" for n in range(size)],
        [None] * size,
        [None] * size,
        [None] * size,
    )
    replaced: dict[int, tuple[int, object]] = {}
    seen_keys: set[int] = set()
    for day in range(1, days + 1):
        target = EpochMillis(TARGET + day * DAY_MS)
        before, rotated = rows, rotate(rows, target, fraction, draw, with_keys=with_keys)
        rows = rotated.rows
        assert 0 < len(rotated.picked) <= 219
        for row in rotated.picked:
            age = (target - before.last_updated[row] // DAY_MS * DAY_MS) // DAY_MS
            assert age > 30
            assert age % 30 == 0
            old = before.current[row] or before.current_key[row]
            replaced[row] = (day, old)
            assert (rows.previous[row] or rows.previous_key[row]) == old
            key = rows.current_key[row]
            if key is not None:
                assert key.id not in seen_keys
                seen_keys.add(key.id)
        kept = [row for row, (when, _) in replaced.items() if day - when < 90]
        held = [row for row in range(size) if rows.previous[row] is not None or rows.previous_key[row] is not None]
        assert sorted(kept) == held
        assert all((rows.previous[row] or rows.previous_key[row]) == replaced[row][1] for row in kept)
        # What was written is read back one millisecond later.
        for row in rotated.picked:
            rows.last_updated[row] += 1
        if day % 50 == 0:
            assert all(target < due <= target + 30 * DAY_MS for due in rows.refresh_from)
            assert max((target - moment) // DAY_MS for moment in rows.last_updated) <= 450
            salts = [salt for salt in rows.current if salt is not None]
            assert len(set(salts)) == len(salts)
            assert all((a is None) != (b is None) for a, b in zip(rows.current, rows.current_key, strict=True))
    assert len(replaced) > size * 0.9


def test_a_rotation_keeps_what_is_in_force(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock, salts=2000)
    for day in range(1, 10):
        target = EpochMillis(TODAY + day * DAY_MS)
        universe.run(lambda c, t=target: rotate_salts(c, t, Fraction(1, 10)))
        clock.pass_days(1)
    listed = universe.look(lambda c: salt_metadata(c).salts)
    # The one in force when the last was made, and the last; none of the earlier ones.
    assert [entry.effective for entry in listed] == [TODAY + 8 * DAY_MS, TODAY + 9 * DAY_MS]
    assert {snapshot.salts for snapshot in universe.look(snapshots)} == {2000}
    with pytest.raises(RefusedError, match="equal or prior"):
        universe.run(lambda c: rotate_salts(c, EpochMillis(TODAY + 9 * DAY_MS), Fraction(1)))


def test_a_snapshot_of_tomorrow_stands_beside_that_of_today(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock)
    first = universe.look(lambda c: salt_metadata(c))
    universe.run(lambda c: rotate_salts(c, EpochMillis(TODAY + DAY_MS), Fraction(1)))
    second = universe.look(lambda c: salt_metadata(c))
    assert [entry.effective for entry in second.salts] == [TODAY, TODAY + DAY_MS]
    assert second.version > first.version
    assert (second.first_level, second.id_prefix, second.id_secret) == (
        first.first_level,
        first.id_prefix,
        first.id_secret,
    )


def test_rebuilding_changes_no_bucket(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock)
    before = (tmp_path / universe.look(lambda c: salt_metadata(c).salts[0].location)).read_bytes()
    clock.pass_days(8)
    made = universe.run(rebuild_salts).result
    assert (made.effective, made.expires) == (clock.now_ms, clock.now_ms + 7 * DAY_MS)
    assert (tmp_path / made.location).read_bytes() == before
    assert [s.effective for s in universe.look(snapshots)] == [clock.now_ms]


def test_files_nobody_can_be_reading_go(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock)
    for _ in range(30):
        clock.pass_days(1)
        universe.run(rebuild_salts)
    files = sorted(int(path.name.split(".")[2]) for path in (tmp_path / "salts").glob("salts.txt.*"))
    assert len(files) == 15
    assert files[0] >= clock.now_ms - 14 * DAY_MS


def test_a_day_without_a_bucket_to_rotate(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock)
    with pytest.raises(RefusedError, match="below min rotation age"):
        universe.run(lambda c: rotate_salts(c, EpochMillis(TODAY + 4000 * DAY_MS), Fraction(1)))
    assert NOW - TODAY < DAY_MS
