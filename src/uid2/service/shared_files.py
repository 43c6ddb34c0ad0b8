"""Packed files that the supervisor writes and its workers map: in memory, for us alone.

/dev/shm/uid2-<random>/            mode 0700, locked while its supervisor lives
/dev/shm/uid2-<random>/lock
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, final

MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
PREFIX: Final = "uid2-"
LOCK_FILE: Final = "lock"


@final
class SharedFolder:
    """A folder for the life of this process. Files may be removed while they are mapped: a mapping keeps its memory.

    Folders that a killed supervisor left behind are removed: their lock is free.
    """

    def __init__(self, parent: Path | None = None) -> None:
        usual = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else Path(tempfile.gettempdir())
        parent = parent or usual
        for left in parent.glob(f"{PREFIX}*"):
            _remove_abandoned(left)
        # mkdtemp makes the folder with mode 0700 and a name that nobody can foresee.
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = os.open(self.path / LOCK_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _remove_abandoned(folder: Path) -> None:
    """A folder without a lock file is being made, or is not ours."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return
        descriptor = os.open(folder / LOCK_FILE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
