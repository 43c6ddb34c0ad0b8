"""Changes of a universe, each whole or not at all, one after another whoever makes them.

read ─▶ change ─▶ write content files ─▶ read them back ─▶ decide (journal) ─▶ put metadata in place ─▶ settle

A writer that is killed before the decision leaves files that nobody reads; after it, the next command of anybody puts
the rest in place. Until then a reader finds each store old or new. A change that another one overtook is made again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, final

from uid2.admin.change import Change, Draw, Replacement
from uid2.admin.errors import ConflictError
from uid2.admin.folder import ABSENT, Folder
from uid2.admin.journal import JournalState, Pending, decide, put_in_place, serial_of, settle, settled_journal
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochMillis

ATTEMPTS: Final = 50
_VERSIONED: Final = re.compile(r"\.(\d+)-[0-9a-f]{8}\.json\Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """`result` is what the operation gave; `written` what was, or with `dry_run` would be, replaced."""

    result: T = field(repr=False)
    written: tuple[Replacement, ...]
    dry_run: bool


@final
class Universe:
    """The stores of one folder. `now_ms` and `draw` are the clock and the randomness of the changes."""

    def __init__(self, folder: Folder, now_ms: Callable[[], EpochMillis], draw: Draw) -> None:
        self.folder = folder
        self._now_ms = now_ms
        self._draw = draw

    def look(self, operation: Callable[[Change], T]) -> T:
        """What `operation` sees; anything it would write is forgotten."""
        for _ in range(ATTEMPTS):
            try:
                settled_journal(self.folder)
                return operation(self._change())
            except ConflictError:
                continue
        raise self._contended()

    def run(self, operation: Callable[[Change], T], *, dry_run: bool = False) -> Outcome[T]:
        """Make the change. `operation` may be called several times: it must not do anything but change its argument.

        RefusedError and what else the operation raises: nothing was changed. StoreUnavailableError: the folder failed;
        the change is made either not at all or by the next command.
        """
        for _ in range(ATTEMPTS):
            try:
                before = settled_journal(self.folder)
                change = self._change()
                result = operation(change)
                written = tuple(change.replacements.values())
                if written and not dry_run:
                    self._commit(change, before)
                return Outcome(result, written, dry_run)
            except ConflictError:
                continue
        raise self._contended()

    def _change(self) -> Change:
        return Change(self.folder, self._now_ms(), self._draw)

    def _commit(self, change: Change, before: JournalState) -> None:
        pending = tuple(
            Pending(item.path, change.expected_tag(item.path), item.data.decode())
            for item in change.replacements.values()
        )
        for path, data in change.contents.items():
            # Somebody else may have chosen the same name: then this change is made again.
            self.folder.put(path, data, ABSENT)
            written = self.folder.read(path)
            if written is None or written.data != data:
                raise StoreUnavailableError(
                    f"{path} does not read back as it was written", next_step="check the store, then run it again"
                )
        decided = decide(self.folder, before, pending)
        passed = put_in_place(self.folder, pending)
        try:
            settle(self.folder, decided)
        except ConflictError:
            return
        self._check_passed(passed, decided.journal.serial)
        self._remove_old(change)

    def _check_passed(self, passed: tuple[Pending, ...], serial: int) -> None:
        """StoreUnavailableError when a program that knows no journal has written between our reading and writing."""
        for item in passed:
            blob = self.folder.read(item.path)
            if (blob is None or blob.data != item.text.encode()) and serial_of(self.folder) == serial:
                raise StoreUnavailableError(
                    f"{item.path} was written by another program at the same time and holds its version",
                    next_step="stop the other program, compare both versions, then run the command again",
                )

    def _remove_old(self, change: Change) -> None:
        """Content of versions before the previous one: whoever still reads has the previous one at most."""
        for path in change.removals:
            self.folder.delete(path)
        for item in change.replacements.values():
            if item.previous_version is None:
                continue
            place = item.path.rpartition("/")[0] + "/"
            for path in self.folder.list(place):
                found = _VERSIONED.search(path)
                if found and "/" not in path[len(place) :] and int(found[1]) < item.previous_version:
                    self.folder.delete(path)

    def _contended(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"others kept changing {self.folder.name} for {ATTEMPTS} attempts", next_step="run the command again"
        )
