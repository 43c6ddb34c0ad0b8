"""Packed files that the supervisor writes and its workers map: one folder per generation, in memory, for us alone."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it


class SharedFolder:
    """Generations of files. A generation may be dropped while it is mapped: the mapping keeps its memory."""

    def __init__(self, parent: Path | None = None) -> None:
        usual = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
        # mkdtemp makes the folder with mode 0700 and a name that nobody can foresee.
        self.path = Path(tempfile.mkdtemp(prefix="uid2-", dir=parent or usual))
        self._number = 0

    def new_generation(self) -> Path:
        self._number += 1
        generation = self.path / f"{self._number:08d}"
        generation.mkdir(mode=0o700)
        return generation

    def drop(self, generation: Path) -> None:
        if generation.parent != self.path:
            raise ValueError("not a generation of this folder")
        shutil.rmtree(generation, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
