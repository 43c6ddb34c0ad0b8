"""The durable local log of opt-outs taken by an operator that has no opt-out service.

The file has the form of a delta: a start entry, then entries in receipt order, 72 bytes each. An entry counts once
`append` has returned: it is then on the disk. An append that fails is taken back whole.
"""

import os
import threading
from pathlib import Path
from typing import final

from uid2.protocol.errors import DurabilityError, StoreFormatError, StoreUnavailableError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutEntry, encode_entry, iter_entries, start_entry


@final
class OptOutJournal:
    """One writer per file. `entries` are those found at the start, without the start entry.

    A final entry cut short by a crash was never confirmed; it is cut off. Any other damage is a StoreFormatError.
    """

    def __init__(self, path: Path, environment: Environment, now: EpochSeconds) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            data = path.read_bytes()
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot open the opt-out journal {path.name}: {error.strerror}",
                next_step=f"check the space and rights of {path.parent}",
            ) from None
        self._size = len(data) - len(data) % ENTRY_LENGTH
        try:
            entries = tuple(iter_entries(data[: self._size], environment))
        except StoreFormatError as error:
            os.close(self._descriptor)
            raise error.in_file(path.name) from None
        self.entries = tuple(entry for entry in entries if not entry.special)
        try:
            if self._size < len(data):
                self._cut()
            if not self._size:
                self._write(encode_entry(start_entry(now)))
            _sync_folder(path.parent)
        except OSError as error:
            os.close(self._descriptor)
            raise _not_durable(error) from None

    def append(self, entry: OptOutEntry) -> None:
        """Make an opt-out durable; blocks for the disk, so call it in a thread.

        DurabilityError: nothing of it is kept. ValueError: no valid entry, or a special one.
        """
        if entry.special:
            raise ValueError("the null hash and the ones hash stand for nobody")
        data = encode_entry(entry)
        with self._lock:
            try:
                self._write(data)
            except OSError as error:
                self._cut_quietly()
                raise _not_durable(error) from None

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, self._size)
        if written != len(data):
            raise OSError(28, "No space left on device")
        os.fsync(self._descriptor)
        self._size += len(data)

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self._size)
        os.fsync(self._descriptor)

    def _cut_quietly(self) -> None:
        # What cannot be cut off now is overwritten by the next append, which begins at the same place.
        try:
            self._cut()
        except OSError:
            return


def _not_durable(error: OSError) -> DurabilityError:
    return DurabilityError(
        f"the opt-out could not be written: {error.strerror}", next_step="free space on the disk of the opt-out journal"
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
