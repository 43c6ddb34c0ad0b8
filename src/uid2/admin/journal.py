"""The journal that makes a change of several objects one change: `admin/journal.json`.

    {"serial": n, "pending": []}                          nothing is under way
    {"serial": n, "pending": [{path, expected, text} …]}  change n has been decided; its objects are being put in place

The journal is replaced only under the condition that it still is the one that was read, so changes are decided one
after another. What is pending is put in place under the condition of the tag that its author saw: whoever finds it
may finish it, any number of times.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from uid2.admin.errors import ConflictError
from uid2.admin.folder import ABSENT, Folder
from uid2.protocol.errors import StoreFormatError

JOURNAL: Final = "admin/journal.json"


class Pending(msgspec.Struct, frozen=True):
    """`expected` is the tag of the object that `text` replaces, empty when there is none."""

    path: str
    expected: str
    text: str


class Journal(msgspec.Struct, frozen=True):
    serial: int = 0
    pending: tuple[Pending, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalState:
    """`tag` is that of the journal object."""

    journal: Journal
    tag: str


def settled_journal(folder: Folder) -> JournalState:
    """The journal with nothing pending; what was pending is put in place first. ConflictError: others are at it."""
    state = _read(folder)
    if not state.journal.pending:
        return state
    put_in_place(folder, state.journal.pending)
    return settle(folder, state)


def decide(folder: Folder, before: JournalState, pending: tuple[Pending, ...]) -> JournalState:
    """The change is decided once this returns. ConflictError: another change was decided first.

    Somebody may have finished the change already when it is read back: then the state has no tag to settle it with.
    """
    journal = Journal(before.journal.serial + 1, pending)
    folder.put(JOURNAL, msgspec.json.encode(journal), before.tag)
    written = _read(folder)
    if written.journal == journal:
        return written
    if written.journal.serial >= journal.serial:
        return JournalState(journal, ABSENT)
    raise ConflictError(f"{JOURNAL} has been written by somebody else")


def settle(folder: Folder, decided: JournalState) -> JournalState:
    return _write(folder, Journal(decided.journal.serial), decided.tag)


def put_in_place(folder: Folder, pending: tuple[Pending, ...]) -> tuple[Pending, ...]:
    """Gives those that somebody has put in place, or passed by, already."""
    passed = []
    for item in pending:
        try:
            folder.put(item.path, item.text.encode(), item.expected)
        except ConflictError:
            passed.append(item)
    return tuple(passed)


def serial_of(folder: Folder) -> int:
    return _read(folder).journal.serial


def _read(folder: Folder) -> JournalState:
    blob = folder.read(JOURNAL)
    if blob is None:
        return JournalState(Journal(), ABSENT)
    try:
        return JournalState(msgspec.json.decode(blob.data, type=Journal), blob.tag)
    except msgspec.DecodeError as error:
        raise StoreFormatError(
            f"not a journal: {error}", file=JOURNAL, next_step="restore the object from a copy of the store"
        ) from None


def _write(folder: Folder, journal: Journal, expected: str) -> JournalState:
    data = msgspec.json.encode(journal)
    folder.put(JOURNAL, data, expected)
    written = folder.read(JOURNAL)
    if written is None or written.data != data:
        raise ConflictError(f"{JOURNAL} has been written by somebody else")
    return JournalState(journal, written.tag)
