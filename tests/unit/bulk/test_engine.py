"""Which engine is chosen, and the overlay of the opt-outs."""

import sys
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uid2.bulk.engine import engine_named
from uid2.bulk.optout_index import empty_index
from uid2.bulk.optout_view import FRESH_ENTRIES, LARGEST_MERGED, OptOutView
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import Environment, FirstLevelHash

choose = engine_named.__wrapped__


def test_without_the_native_module_the_reference_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uid2_native", None)
    assert choose("auto").name == "reference"
    with pytest.raises(ConfigurationError, match="the native module cannot be used"):
        choose("native")


def test_a_module_built_from_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uid2_native", ModuleType("uid2_native"))
    assert choose("auto").name == "reference"
    with pytest.raises(ConfigurationError, match="built from other sources"):
        choose("native")


def test_the_reference_can_be_asked_for_and_other_names_are_refused() -> None:
    assert choose("reference").name == "reference"
    with pytest.raises(ConfigurationError, match="no such bulk engine"):
        choose("fast")


def entry(number: int, seconds: int = 7) -> tuple[bytes, bytes, int]:
    return number.to_bytes(32, "big")[::-1], (number + 1).to_bytes(32, "big")[::-1], seconds


ids = st.binary(min_size=32, max_size=33) | st.sampled_from([b"\x44" + bytes(32), b"\x64" + bytes(32), bytes(32)])
logouts = st.lists(st.tuples(st.sampled_from([bytes(32), b"\xff" * 32, b"a" * 32, b"b" * 32]), ids, st.integers(0, 99)))


@given(st.lists(logouts, max_size=4), st.sampled_from(Environment))
@settings(deadline=None)
def test_a_view_agrees_with_a_plain_model(
    batches: list[list[tuple[bytes, bytes, int]]], environment: Environment
) -> None:
    view = OptOutView(empty_index(environment))
    taken: list[tuple[bytes, bytes, int]] = []
    for batch in batches:
        before = view
        known = [before.timestamp_of_hash(FirstLevelHash(flh)) for flh, _, _ in batch]
        # Often enough to move entries into an index of their own.
        view = view.with_entries(batch * (FRESH_ENTRIES // 3))
        assert [before.timestamp_of_hash(FirstLevelHash(flh)) for flh, _, _ in batch] == known
        taken += batch
    for flh, uid, _ in taken:
        latest = max(seconds for other, _, seconds in taken if other == flh)
        found = view.timestamp_of_hash(FirstLevelHash(flh))
        assert found == latest if any(flh) else found > latest
        earliest = min(seconds for _, other, seconds in taken if other == uid)
        assert view.timestamps_of_ids([encode_base64(uid), ""]) == [earliest, None]


def test_the_cost_of_a_logout_stays_small() -> None:
    view = OptOutView(empty_index(Environment.TEST))
    count = 3 * LARGEST_MERGED
    for begin in range(0, count, FRESH_ENTRIES // 2):
        view = view.with_entries(entry(number) for number in range(begin + 1, begin + 1 + FRESH_ENTRIES // 2))
        assert len(view.overlay.by_hash) <= FRESH_ENTRIES
        assert all(index.size <= LARGEST_MERGED for index in view.overlay.indices)
    assert len(view.overlay) == count
    assert len(view.overlay.indices) < 16
    assert all(view.timestamp_of_hash(FirstLevelHash(entry(number)[0])) == 7 for number in (1, count // 2, count))
