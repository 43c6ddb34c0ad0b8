"""The packed indices of the opt-out files: a large one and a few small ones, so that a small new file costs little.

    optout.index     what there was at the start
    optout.index.1   what came since; the last ones and what is new become one as they grow, the large one stays

What is indexed stays so as long as the process lives. An index that a larger one has replaced is removed only when the
next one is written: who was told of it can still open it meanwhile.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.optout_index import OptOutIndex
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import ENTRY_LENGTH, OptOutFileName
from uid2.stores.optout_files import OptOutFile

# Rows that are always worth merging: 3 MB, some milliseconds.
SMALL: Final = 65_536
# While indices are merged the old ones are still in use: at most this part of all rows is there twice.
SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class OptOutRun:
    """One packed index, mapped from its file."""

    path: Path
    index: OptOutIndex


@final
class OptOutRuns:
    """`runs` together hold every opt-out of the files of all updates; `indexed` are the files of the last one."""

    def __init__(self, path: Path, environment: Environment, engine: Engine | None = None) -> None:
        self._path = path
        self._environment = environment
        self._engine = engine or best_engine()
        self._covered: frozenset[tuple[str, int]] = frozenset()
        self._replaced: tuple[Path, ...] = ()
        self._number = 0
        self.runs: tuple[OptOutRun, ...] = ()
        self.indexed: tuple[OptOutFileName, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(run.path for run in self.runs)

    @property
    def indices(self) -> tuple[OptOutIndex, ...]:
        return tuple(run.index for run in self.runs)

    def update(self, files: Sequence[OptOutFile]) -> bool:
        """Index the files that are new or have grown; whether there were any, or it is the first update.

        StoreUnavailableError, StoreFormatError: everything is as before.
        """
        new = [file for file in files if (file.path.name, file.size) not in self._covered]
        changed = bool(new) or not self.runs
        if changed:
            self._add(new)
        self._covered = frozenset((file.path.name, file.size) for file in files)
        self.indexed = tuple(file.name for file in files)
        return changed

    def _add(self, files: Sequence[OptOutFile]) -> None:
        entries = sum(file.size for file in files) // ENTRY_LENGTH
        kept = len(self.runs) - merged_with([run.index.size for run in self.runs], entries)
        merged = self.runs[kept:]
        path = self._path.with_name(f"{self._path.name}.{self._number}") if self._number else self._path
        partial = path.with_name(f".{path.name}.partial")
        try:
            self._engine.build_optout_index(
                [file.path for file in files], partial, self._environment, [run.index for run in merged]
            )
            index = self._engine.open_optouts(map_index(partial))
            # A process that serves may have the file of its last start mapped: that one stays whole.
            partial.replace(path)
            self._remove(self._replaced if self.runs else self._left_behind())
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot use {path.name}: {error.strerror}", next_step=f"check the space and rights of {path.parent}"
            ) from None
        self._number += 1
        self._replaced = tuple(run.path for run in merged)
        self.runs = (*self.runs[:kept], OptOutRun(path, index))

    def _left_behind(self) -> tuple[Path, ...]:
        """Indices of a process before this one."""
        folder, name = self._path.parent, self._path.name
        return (*folder.glob(f"{name}.[0-9]*"), *folder.glob(f".{name}.*partial"))

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)


def merged_with(sizes: Sequence[int], new: int) -> int:
    """How many of the last indices, by their rows, become one with `new` entries.

    As in a binary counter an index takes in those before it that are not much larger, so that a row is written a few
    times and there are few indices.
    """
    room = max(SMALL, (sum(sizes) + new) // SHARE)
    count, together = 0, new
    for size in reversed(sizes):
        room -= size
        if room < 0 or size > max(SMALL, 2 * together):
            break
        together += size
        count += 1
    return count


def map_index(path: Path) -> memoryview:
    """An index file in memory; all processes that map it share it."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
