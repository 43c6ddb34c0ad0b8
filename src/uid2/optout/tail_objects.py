"""Opt-outs on their way to the live tails of other instances, as objects of the bucket.

    <folder>tail/<writer, 16 hex digits>/<number, 20 digits>      records as in `queue_records`, one after the other

A writer is one run of one process. It writes one object after the other under growing numbers, so a reader that has
seen a number has seen every lower one. Readers of opt-out files list other folders and never meet these.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, final

from uid2.optout.bucket import Bucket
from uid2.optout.queue_records import Record, encode_record, read_records
from uid2.protocol.errors import StoreUnavailableError

LARGEST_OBJECT: Final = 16 << 20
READERS: Final = 8
READ_AT_ONCE: Final = 32
# An object that cannot be read holds up those after it for so many rounds.
MOST_FAILURES: Final = 10
_WRITER: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_NAME: Final = re.compile(r"[0-9]{20}", re.ASCII)

_log = logging.getLogger(__name__)


class TailObject(NamedTuple):
    """`path` in the bucket."""

    path: str
    records: tuple[Record, ...]


@final
class TailObjects:
    """`writer` is this process's own. Calls block; writing and reading may each be done by one thread at a time."""

    def __init__(self, bucket: Bucket, folder: str, writer: str) -> None:
        self._bucket = bucket
        self._folder = f"{folder}tail/"
        self._writer = writer
        self._written = 0
        self._after: dict[str, str] = {}
        self._failures: dict[str, int] = {}

    def write(self, records: Sequence[Record]) -> str:
        """The path of the new object. StoreUnavailableError: the next call shall bring the same records."""
        path = f"{self._folder}{self._writer}/{self._written + 1:020d}"
        self._bucket.put(path, b"".join(encode_record(record) for record in records))
        self._written += 1
        return path

    def fresh(self) -> Iterator[TailObject]:
        """What others have written and this has not given yet, each writer's in order. StoreUnavailableError.

        An object that cannot be read now is given in a later round, together with those after it.
        """
        writers = [name for name in self._bucket.folders(self._folder) if _WRITER.fullmatch(name)]
        for gone in self._after.keys() - set(writers):
            del self._after[gone]
        with ThreadPoolExecutor(READERS) as pool:
            for writer in writers:
                if writer == self._writer:
                    continue
                paths = self._bucket.list_after(f"{self._folder}{writer}/", self._after.get(writer, ""))
                named = [path for path in paths if _NAME.fullmatch(path.rpartition("/")[2])]
                for start in range(0, len(named), READ_AT_ONCE):
                    part = named[start : start + READ_AT_ONCE]
                    failed = False
                    for path, found in zip(part, pool.map(self._read, part), strict=True):
                        if found is None and not self._given_up(path):
                            failed = True
                            break
                        self._after[writer] = path.rpartition("/")[2]
                        if found is not None:
                            self._failures.pop(path, None)
                            yield TailObject(path, found)
                    if failed:
                        break

    def delete(self, path: str) -> None:
        self._bucket.delete(path)

    def _read(self, path: str) -> tuple[Record, ...] | None:
        try:
            data = self._bucket.read(path, LARGEST_OBJECT)
        except StoreUnavailableError:
            return None
        records, end = [], 0
        for record, offset in read_records(data):
            records.append(record)
            end = offset
        if end < len(data):
            _log.error("%s is damaged after %d bytes; what is missing comes by files", path, end)
        return tuple(records)

    def _given_up(self, path: str) -> bool:
        self._failures[path] = self._failures.get(path, 0) + 1
        if self._failures[path] < MOST_FAILURES:
            return False
        del self._failures[path]
        _log.error("%s cannot be read and is passed over; its opt-outs come by files", path)
        return True
