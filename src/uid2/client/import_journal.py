"""What an import has brought to an opt-out service already: a SQLite file beside the list.

It holds digests, no identities. It lets an import that was interrupted go on, and the same person of a list, or the
same list again, be sent once; memory stays the same however long the list is.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from uid2.protocol.errors import ConfigurationError

DIGEST_LENGTH: Final = 16
_AT_A_TIME: Final = 500


@final
class ImportJournal:
    """A context manager. ConfigurationError: the file cannot be used."""

    def __init__(self, path: Path, service: str) -> None:
        self.path = path
        # The same person at another service is another opt-out.
        self._service = service.encode()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path)
            self._database.execute("CREATE TABLE IF NOT EXISTS confirmed (id BLOB PRIMARY KEY) WITHOUT ROWID")
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__) from None
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def confirmed(self, identity_hashes: Sequence[bytes]) -> set[bytes]:
        """Those of the hashes that the service has confirmed."""
        by_id = {self._id(identity_hash): identity_hash for identity_hash in identity_hashes}
        ids = list(by_id)
        found: set[bytes] = set()
        for first in range(0, len(ids), _AT_A_TIME):
            some = ids[first : first + _AT_A_TIME]
            marks = ",".join("?" * len(some))
            query = f"SELECT id FROM confirmed WHERE id IN ({marks})"  # noqa: S608 - question marks only
            found |= {by_id[row[0]] for row in self._execute(query, some)}
        return found

    def confirm(self, identity_hashes: Iterable[bytes]) -> None:
        """Remember them; on the disk when it returns."""
        rows = [(self._id(identity_hash),) for identity_hash in identity_hashes]
        try:
            with self._database:
                self._database.executemany("INSERT OR IGNORE INTO confirmed VALUES (?)", rows)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from None

    def _execute(self, query: str, values: Sequence[bytes]) -> list[tuple[bytes]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from None

    def _id(self, identity_hash: bytes) -> bytes:
        return sha256(self._service + b"\0" + identity_hash).digest()[:DIGEST_LENGTH]

    def _unusable(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} cannot be used to keep account of the import: {why}",
            next_step="name another file with --journal, on a disk with space",
        )
