"""What is wrong with the opt-out files of a bucket: names, lengths, order, special entries, times.

A fault loses opt-outs or hides them; a remark is unusual and harms nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from uid2.optout.bucket import Bucket
from uid2.optout.entry_files import EntryFile, time_of
from uid2.optout.listing import ListedFile, delta_path, partition_path
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import ENTRY_LENGTH, HASH_LENGTH, NULL_HASH, ONES_HASH, OptOutFileKind

# Clocks of the machines that write may differ from this one's.
FUTURE_SECONDS: Final = 86_400
_ID: Final = slice(HASH_LENGTH, 2 * HASH_LENGTH)
_UNKNOWN_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """`place` is the number of an entry, counted from 0, where it has one."""

    path: str
    what: str
    fault: bool
    place: int | None = None


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """`entries` are the whole ones, `special` those of them that stand for nobody."""

    file: ListedFile
    entries: int
    special: int
    findings: tuple[Finding, ...]


def check_file(bucket: Bucket, file: ListedFile, folder: str, now: EpochSeconds) -> CheckedFile:
    """Reads the file through; one that cannot be read is a finding like any other."""
    findings = list(_check_place(file, folder))
    try:
        opened = EntryFile(bucket, file)
        tally = _Tally(file)
        for row in opened.rows():
            tally.take(row, now)
    except StoreUnavailableError as error:
        findings.append(Finding(file.path, error.message, fault=True))
        return CheckedFile(file, 0, 0, tuple(findings))
    if opened.torn:
        findings.append(
            Finding(
                file.path,
                f"{opened.size} bytes are no multiple of {ENTRY_LENGTH}: the last {opened.torn} belong to no entry",
                fault=True,
            )
        )
    return CheckedFile(file, opened.entries, tally.special, (*findings, *tally.findings()))


def foreign_finding(path: str) -> Finding:
    """A file whose name nobody reads."""
    return Finding(path, "is not named as an opt-out file: nobody reads it", fault=True)


def _check_place(file: ListedFile, folder: str) -> Iterator[Finding]:
    if file.name.synthetic:
        return
    make = delta_path if file.kind is OptOutFileKind.DELTA else partition_path
    wanted = make(folder, file.name.replica, file.created, file.name.number)
    if wanted.rpartition("/")[0] != file.path.rpartition("/")[0]:
        yield Finding(file.path, f"lies elsewhere than its name says: {wanted.rpartition('/')[0]}/", fault=False)


class _Tally:
    """What the entries of one file show, in a few numbers however many there are."""

    def __init__(self, file: ListedFile) -> None:
        self._file = file
        self._previous = b""
        self._count = 0
        self._first = self._last = b""
        self._counts: dict[tuple[str, bool], tuple[int, int]] = {}
        self.special = 0

    def take(self, row: bytes, now: EpochSeconds) -> None:
        identity_hash = row[:HASH_LENGTH]
        if not self._count:
            self._first = identity_hash
        if self._file.kind is OptOutFileKind.PARTITION and self._count:
            if identity_hash < self._previous:
                self._note("entries are out of order: look-ups by identity may miss opt-outs", fault=True)
            elif identity_hash == self._previous:
                self._note("identity hashes are there twice", fault=True)
        if identity_hash in (NULL_HASH, ONES_HASH):
            self.special += 1
            if row[_ID] != identity_hash or row[-1]:
                self._note("special entries hold an advertising ID", fault=False)
        else:
            self._check_ordinary(row, now)
        self._previous = self._last = identity_hash
        self._count += 1

    def findings(self) -> Iterator[Finding]:
        if not self._count:
            yield Finding(self._file.path, "is empty", fault=self._file.kind is OptOutFileKind.PARTITION)
        elif self._file.kind is OptOutFileKind.DELTA and (self._first, self._last) != (NULL_HASH, ONES_HASH):
            yield Finding(self._file.path, "does not begin and end with the special entries", fault=False)
        for (what, fault), (times, place) in self._counts.items():
            yield Finding(self._file.path, f"{times} times: {what}" if times > 1 else what, fault, place)

    def _check_ordinary(self, row: bytes, now: EpochSeconds) -> None:
        at = time_of(row)
        if at == 0:
            self._note("the time of an entry is 0: look-ups by identity take it for no opt-out", fault=True)
        elif at > now + FUTURE_SECONDS:
            self._note("the time of an entry lies in the future", fault=False)
        version = row[-1] >> 6
        if version == _UNKNOWN_VERSION or (version == 0 and row[-1]):
            self._note("the metadata of an entry is of no known version", fault=True)

    def _note(self, what: str, *, fault: bool) -> None:
        times, place = self._counts.get((what, fault), (0, self._count))
        self._counts[what, fault] = (times + 1, place)
