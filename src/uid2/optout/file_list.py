"""The service's own list of the bucket, read again every `cloud_refresh_interval`. A failed listing changes nothing."""

import asyncio
import logging
from collections.abc import Callable
from typing import final

from uid2.optout.bucket import Bucket
from uid2.optout.listing import ListedFile, folders, listed_files
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import EpochMillis

_log = logging.getLogger(__name__)


@final
class FileList:
    """`files` is None until the first good listing. `on_listed` is told of each outcome on the event loop."""

    def __init__(
        self,
        bucket: Bucket,
        folder: str,
        now: Callable[[], EpochMillis],
        *,
        synthetic_count: int | None = None,
        on_listed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._now = now
        self._synthetic_count = synthetic_count
        self._on_listed = on_listed
        self._foreign: set[str] = set()
        self.files: tuple[ListedFile, ...] | None = None
        self.listed_at: EpochMillis | None = None
        self.problem: str | None = "not started"

    async def refresh(self) -> bool:
        """One listing; whether it succeeded. On failure the former list stays."""
        try:
            self.files = await asyncio.to_thread(self._list)
        except Uid2Error as error:
            if self.problem != error.message:
                _log.error("s3_error: %s", error.message, extra={"next_step": error.next_step})
            self.problem = error.message
            self._on_listed(False)
            return False
        self.problem, self.listed_at = None, self._now()
        self._on_listed(True)
        return True

    async def run(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.refresh()

    def _list(self) -> tuple[ListedFile, ...]:
        paths: list[str] = []
        for prefix in folders(self._folder, synthetic=self._synthetic_count is not None):
            found = self._bucket.list(prefix)
            paths += found[: self._synthetic_count] if prefix.endswith("synthetic/") else found
        return listed_files(paths, self._warn)

    def _warn(self, path: str) -> None:
        if path not in self._foreign and len(self._foreign) < 1000:
            self._foreign.add(path)
            _log.warning("the bucket holds a file that is no opt-out file and is passed over: %s", path)


def read_bucket(bucket: Bucket, folder: str) -> tuple[ListedFile, ...]:
    """Every opt-out file but synthetic ones, oldest first. StoreUnavailableError."""
    return listed_files(path for prefix in folders(folder, synthetic=False) for path in bucket.list(prefix))
