"""The overlay falls back to what no file holds, and look-ups stay those of a plain model."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uid2.bulk.engine import Engine, engine_named
from uid2.bulk.optout_view import CLOCKS_DIFFER_SECONDS, FRESH_ENTRIES, OptOutView
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.optout_data import OptOutData
from uid2.operator.optout_metrics import OptOutMetrics
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import Environment, EpochSeconds, FirstLevelHash
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind, OptOutFileName, encode_entry
from uid2.stores import optout_runs
from uid2.stores.optout_files import OptOutFiles

Entry = tuple[bytes, bytes, int]
HASHES = [bytes((n,)) * 32 for n in (1, 7, 200)] + [b"\x07" * 8 + b"\x08" * 24]
IDS = [bytes((n,)) * 32 for n in (1, 3)] + [b"\x04" + bytes((n,)) * 32 for n in (1, 9)]
# Near enough for clocks that differ, and far apart.
TIMES = st.integers(1, 3) | st.integers(0, 3 * CLOCKS_DIFFER_SECONDS)
drawn = st.lists(st.tuples(st.sampled_from(HASHES), st.sampled_from(IDS), TIMES), min_size=1, max_size=6)
steps = st.lists(
    st.tuples(st.sampled_from(["take", "many", "log"]), drawn)
    | st.tuples(st.sampled_from(["refresh", "restart"]), st.just([])),
    max_size=14,
)


@pytest.fixture(params=["native", "reference"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engine_of(request.param)


def engine_of(name: str) -> Engine:
    if name == "native":
        pytest.importorskip("uid2_native")
    return engine_named(name)


class Stage:
    """Files on a disk and the opt-out data over them; a restart takes again what was taken, as a journal does."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.journal: list[Entry] = []
        self.files = 0
        self.between: Callable[[], None] = lambda: None
        self.restart()

    def restart(self) -> None:
        metrics = OptOutMetrics(OperatorMetrics())
        # Told when indices are whole and not yet in force.
        metrics.indexed = lambda *_: self.between()  # type: ignore[method-assign]
        taken = [OptOutEntry(flh, uid, EpochSeconds(at)) for flh, uid, at in self.journal]
        self.data = OptOutData(
            Environment.TEST,
            OptOutFiles(self.folder),
            self.folder / "index",
            taken,
            engine=self.engine,
            metrics=metrics,
        )
        self.data.load()

    @property
    def view(self) -> OptOutView:
        return self.data.view

    def take(self, entries: list[Entry]) -> None:
        self.journal += entries
        self.data.take_entries(entries)

    def write(self, entries: Iterable[Entry], kind: OptOutFileKind = OptOutFileKind.DELTA) -> None:
        self.files += 1
        folder = self.folder / "consumer" / kind
        folder.mkdir(parents=True, exist_ok=True)
        name = OptOutFileName(kind, 0, EpochSeconds(1_722_500_000 + self.files), self.files)
        data = b"".join(encode_entry(OptOutEntry(flh, uid, EpochSeconds(at))) for flh, uid, at in entries)
        (folder / name.format()).write_bytes(data)

    def refresh(self) -> None:
        assert asyncio.run(self.data.refresh())

    def agrees(self, entries: Iterable[Entry]) -> None:
        """Latest by hash and earliest by id are those of these entries, single and many at once."""
        by_hash, by_id = dict.fromkeys(HASHES, 0), dict.fromkeys(IDS, -1)
        for flh, uid, at in entries:
            by_hash[flh] = max(by_hash.get(flh, 0), at)
            known = by_id.get(uid, -1)
            by_id[uid] = at if known < 0 else min(known, at)
        finder = self.view.finder()
        assert {flh: finder(FirstLevelHash(flh)) for flh in by_hash} == by_hash
        texts = [encode_base64(uid) for uid in by_id]
        expected = [None if at < 0 else at for at in by_id.values()]
        assert self.view.timestamps_of_ids(texts) == expected
        assert [self.view.timestamp_of_id(text) for text in texts[:40]] == expected[:40]


@contextmanager
def stage_of(name: str) -> Iterator[Stage]:
    with TemporaryDirectory() as folder:
        yield Stage(Path(folder), engine_of(name))


def held(entry: Entry, indexed: list[Entry]) -> bool:
    flh, uid, at = entry
    return any((flh, uid) == (h, i) and t >= at - CLOCKS_DIFFER_SECONDS for h, i, t in indexed)


@given(steps, st.sampled_from(["native", "reference"]))
@settings(deadline=None, max_examples=150)
def test_look_ups_are_those_of_a_plain_model(steps: list[tuple[str, list[Entry]]], engine: str) -> None:
    with stage_of(engine) as stage:
        taken: list[Entry] = []
        written: list[Entry] = []
        indexed: list[Entry] = []
        for kind, entries in steps:
            if kind == "take":
                stage.take(entries)
                taken += entries
            elif kind == "many":
                # Enough to move the overlay's entries into an index of their own.
                stage.take(entries * (FRESH_ENTRIES // len(entries) + 1))
                taken += entries
            elif kind == "log":
                stage.write(entries)
                written += entries
            else:
                changed = kind == "restart" or len(written) != len(indexed)
                if kind == "restart":
                    stage.restart()
                    taken = list(stage.journal)
                else:
                    stage.refresh()
                taken = [entry for entry in taken if not (changed and held(entry, written))]
                if changed and not taken:
                    assert len(stage.view.overlay) == 0
                indexed = list(written)
            stage.agrees([*indexed, *taken])


people = st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True)


@given(st.lists(people, min_size=1, max_size=3), st.sampled_from([1, 14]), st.sampled_from(["native", "reference"]))
@settings(deadline=None, max_examples=25)
def test_nobody_is_invisible_while_files_come_into_force(batches: list[list[int]], repeat: int, engine: str) -> None:
    """Every opt-out is taken first and comes in a file later, word for word: times never change."""
    with stage_of(engine) as stage:
        known: list[Entry] = []

        def while_refreshing() -> None:
            # After the new indices are whole and the overlay is trimmed, before either is in force.
            stage.agrees(known)
            late = [person(2 * 10**6 + len(known) + number) for number in range(repeat * 20)]
            stage.take(late)
            known.extend(late)
            stage.agrees(known)

        logged = 0
        for batch in batches:
            entries = [person(number) for number in batch for _ in range(repeat)]
            stage.take(entries)
            known.extend(entries)
            stage.between = while_refreshing
            stage.write(known[logged:])
            logged = len(known)
            stage.refresh()
            stage.between = lambda: None
            stage.agrees(known)
        for _ in range(2):
            # What came in between is in the next file.
            stage.write(known[logged:] or known[:1])
            logged = len(known)
            stage.refresh()
            stage.agrees(known)
        assert len(stage.view.overlay) == 0


@cache
def person(number: int) -> Entry:
    draw = random.Random(number)
    uid = draw.randbytes(32) if number % 2 else b"\x04" + draw.randbytes(32)
    return draw.randbytes(32), uid, 1000 + number % 777


def test_days_of_logouts_do_not_pile_up(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optout_runs, "SMALL", 500)
    stage = Stage(tmp_path, engine)
    per_cycle, most, total = 300, 0, 0
    for cycle in range(60):
        entries = [person(cycle * per_cycle + number) for number in range(per_cycle)]
        total += per_cycle
        stage.take(entries)
        most = max(most, len(stage.view.overlay))
        stage.write(entries)
        if cycle % 20 == 19:
            # A partition holds once more what the deltas of the day held.
            day = range((cycle - 19) * per_cycle, (cycle + 1) * per_cycle)
            stage.write((person(number) for number in day), OptOutFileKind.PARTITION)
        stage.refresh()
        assert (len(stage.view.overlay), stage.view.overlay.indices) == (0, ())
    assert most == per_cycle
    assert len(stage.view.files) <= 8
    # Rows of a partition that meet those of its deltas in a merge are there once.
    assert total <= stage.view.indexed <= 2 * total
    stage.agrees(person(number) for number in range(0, total, 17))


def test_an_own_logout_goes_although_the_log_has_another_time(engine: Engine, tmp_path: Path) -> None:
    """The operator's clock is ahead of the service's, or behind."""
    stage = Stage(tmp_path, engine)
    flh, uid, _ = person(1)
    for number, shift in enumerate((-CLOCKS_DIFFER_SECONDS, 0, 2)):
        stage.take([(flh, uid, 10_000)])
        stage.write([(flh, uid, 10_000 + shift - number)])
        stage.refresh()
        assert len(stage.view.overlay) == (0 if shift - number >= -CLOCKS_DIFFER_SECONDS else 1)
    stage.agrees([(flh, uid, 10_000 - CLOCKS_DIFFER_SECONDS), (flh, uid, 10_000)])


@pytest.mark.parametrize("change", ["hash", "id", "time"])
def test_what_no_file_holds_stays(engine: Engine, tmp_path: Path, change: str) -> None:
    stage = Stage(tmp_path, engine)
    flh, uid, _ = person(1)
    # Next to it among the rows.
    other_hash, other_id = flh[:8] + bytes(24), person(3)[1]
    logged = {
        "hash": (other_hash, uid, 10_000),
        "id": (flh, other_id, 10_000),
        "time": (flh, uid, 10_000 - CLOCKS_DIFFER_SECONDS - 1),
    }[change]
    for copies in (1, FRESH_ENTRIES + 1):
        stage.take([(flh, uid, 10_000)] * copies)
        stage.write([logged] * copies)
        stage.refresh()
        assert len(stage.view.overlay) >= 1
        stage.agrees([(flh, uid, 10_000), logged])


def test_many_entries_that_stay_are_few_indices(engine: Engine, tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine)
    entries = [person(number) for number in range(40 * FRESH_ENTRIES)]
    for begin in range(0, len(entries), FRESH_ENTRIES + 1):
        stage.take(entries[begin : begin + FRESH_ENTRIES + 1])
    stage.write([person(10**6)])
    stage.refresh()
    assert len(stage.view.overlay) == len(entries)
    assert len(stage.view.overlay.indices) == 1
    stage.agrees([*entries[::7], person(10**6)])
