"""Killed at each step that changes the disk, of every operation, twice; and several writers at once."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_stage import NOW, OPERATIONS, Ticking, new_universe, populate, registrable, settings, universe_in

from uid2.admin.change import Change
from uid2.admin.journal import JOURNAL
from uid2.admin.local_folder import LocalFolder
from uid2.admin.records import STORES
from uid2.admin.salt_store import SALTS_METADATA
from uid2.admin.sites import add_site
from uid2.admin.transaction import Universe
from uid2.admin.universe import initialise
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import parse_salt_metadata
from uid2.protocol.sites import Site


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


class Killer:
    """Ends the program before step `at` (from 1); counts the steps when `at` is 0."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, step: str, path: str) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("universe")
    new_universe(root).run(populate)
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"
    shutil.rmtree(tmp_path, ignore_errors=True)


def adding(name: str) -> Callable[[Change], Site]:
    return lambda change: add_site(change, name, registrable=registrable)


def contents(root: Path) -> dict[str, Any]:
    """Every store as a reader finds it: metadata, then the content that it names. Keys are left out of sight."""
    reader = Change(LocalFolder(root), EpochMillis(NOW), lambda n: bytes(n))
    found: dict[str, Any] = {store.name: reader.records(store) for store in STORES}
    salts = reader.document(SALTS_METADATA)
    if salts is not None:
        found["salts"] = salts
        for snapshot in parse_salt_metadata(salts, EpochMillis(NOW)).salts:
            content = reader.content(snapshot.location)
            assert content is not None
            assert content.count(b"\n") == snapshot.size
    for scope in sorted(p.parent.relative_to(root).as_posix() for p in root.glob("*/*/*/metadata.json")):
        found[scope] = (root / scope / "metadata.json").read_bytes()
    return found


def killed(root: Path, operation: Any, at: int, seed: int) -> int:
    """Steps that were taken; the program ended before step `at`."""
    killer = Killer(at)
    universe = universe_in(LocalFolder(root, killer), seed=seed)
    try:
        universe.run(operation)
    except Killed:
        assert killer.steps == at
    return killer.steps


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_step_of_every_operation(name: str, populated: Path, scratch: Path, record_property: Any) -> None:
    operation = OPERATIONS[name]
    shutil.copytree(populated, scratch)
    before = contents(scratch)
    steps = killed(scratch, operation, 0, seed=9)
    after = contents(scratch)
    assert before != after, "an operation that changes nothing shows nothing"
    record_property("points", 2 * steps)
    for at in range(1, steps + 1):
        shutil.rmtree(scratch)
        shutil.copytree(populated, scratch)
        killed(scratch, operation, at, seed=9)
        torn = contents(scratch)
        assert all(torn[key] in (before.get(key), after.get(key)) for key in torn), (name, at)
        # The second one is killed at the same step of its own way: it may be finishing what the first has begun.
        killed(scratch, adding("Second"), at, seed=10)
        contents(scratch)
        universe_in(LocalFolder(scratch), seed=11).run(adding("Afterwards"))
        whole = contents(scratch)
        added = {site.name for site in whole["sites"]} & {"Three", "Afterwards"}
        assert "Afterwards" in added
        rest = [key for key in after if key not in ("sites", "keysets") and after[key] != before.get(key)]
        states = {whole.get(key) == after[key] for key in rest}
        assert len(states) <= 1, (name, at, "some stores are new and some are old")
        if states == {False}:
            assert all(whole.get(key) == before.get(key) for key in rest)


@pytest.mark.parametrize("round_", [1, 2])
def test_a_killed_beginning_begins_again(scratch: Path, round_: int) -> None:
    scratch.mkdir()
    steps = killed(scratch, lambda c: initialise(c, settings(), 16), 0, seed=1)
    for at in range(round_, steps + 1, 3):
        shutil.rmtree(scratch)
        scratch.mkdir()
        killed(scratch, lambda c: initialise(c, settings(), 16), at, seed=1)
        universe = universe_in(LocalFolder(scratch), seed=2)
        if not universe.look(lambda c: c.document(SALTS_METADATA)):
            universe.run(lambda c: initialise(c, settings(), 16))
        universe.run(populate)
        assert len(contents(scratch)["sites"]) == 2


def _add_sites(root: str, name: str, count: int) -> None:
    universe = universe_in(LocalFolder(Path(root)), seed=hash(name) & 0xFFFF)
    for number in range(count):
        universe.run(adding(f"{name} {number}"))


def test_writers_at_the_same_time_lose_nothing(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    context = multiprocessing.get_context("fork")
    names = ("alpha", "beta", "gamma")
    writers = [context.Process(target=_add_sites, args=(str(scratch), name, 12)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    sites = contents(scratch)["sites"]
    assert {writer.exitcode for writer in writers} == {0}
    assert {site.name for site in sites} >= {f"{name} {n}" for name in names for n in range(12)}
    assert len({site.id for site in sites}) == len(sites) == 2 + 36


class Overseen:
    """A folder whose first decision somebody else finishes before its author can read it back."""

    def __init__(self, folder: LocalFolder, finish: Callable[[], object]) -> None:
        self._folder, self._finish = folder, finish
        self.name, self.read, self.list, self.delete = folder.name, folder.read, folder.list, folder.delete
        self.finished = 0

    def put(self, path: str, data: bytes, expected: str | None = None) -> None:
        self._folder.put(path, data, expected)
        if path == JOURNAL and b'"pending":[{' in data and not self.finished:
            self.finished += 1
            self._finish()


def test_a_change_that_another_finished_is_not_made_twice(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    other = universe_in(LocalFolder(scratch), seed=9)
    folder = Overseen(LocalFolder(scratch), lambda: other.look(lambda _: None))
    universe_in(folder, seed=3).run(adding("Once"))
    assert folder.finished == 1
    assert [site.name for site in contents(scratch)["sites"]].count("Once") == 1


def test_a_change_that_was_overtaken_is_made_again(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    slow, fast = universe_in(LocalFolder(scratch), seed=3), universe_in(LocalFolder(scratch), seed=4)
    overtaken: list[int] = []

    def operation(change: Change) -> int:
        site = add_site(change, "Slow", registrable=registrable)
        if not overtaken:
            overtaken.append(fast.run(adding("Fast")).result.id)
        return int(site.id)

    assert slow.run(operation).result == overtaken[0] + 1


def test_a_dry_run_writes_nothing(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    killer = Killer(1)
    for operation in OPERATIONS.values():
        outcome = universe_in(LocalFolder(scratch, killer), seed=5).run(operation, dry_run=True)
        assert outcome.written
        assert outcome.dry_run
    assert killer.steps == 0


def test_versions_rise_though_the_clock_goes_back(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    clock = Ticking()
    clock.pass_days(-400)
    universe: Universe = universe_in(LocalFolder(scratch), clock)
    outcome = universe.run(adding("Later"))
    (written,) = outcome.written
    assert written.version is not None
    assert written.previous_version is not None
    assert written.version > written.previous_version


def test_old_content_goes_when_nobody_can_be_reading_it(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    clock = Ticking()
    for number in range(6):
        clock.pass_days(1)
        universe_in(LocalFolder(scratch), clock, seed=number).run(adding(f"Number {number}"))
    assert len(list((scratch / "sites").glob("sites.*-*.json"))) == 2


def test_a_broken_store_is_named(populated: Path, scratch: Path) -> None:
    shutil.copytree(populated, scratch)
    for file in (scratch / "sites").glob("sites.*-*.json"):
        file.write_text("[{}]")
    with pytest.raises(StoreFormatError, match=r"sites/metadata\.json"):
        universe_in(LocalFolder(scratch)).run(OPERATIONS["site add"])
