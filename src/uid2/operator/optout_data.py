"""The operator's opt-outs: the packed index of the files, the journal, and what this process has taken since."""

import asyncio
import logging
import mmap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

from uid2.bulk.engine import Engine, best_engine
from uid2.bulk.tables import OptOutView, empty_index
from uid2.operator.context import OptOutRequest
from uid2.protocol.errors import Uid2Error
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import OptOutEntry
from uid2.stores.optout_files import OptOutFiles

_log = logging.getLogger(__name__)


@final
class OptOutData:
    """`view` is what requests see. A failed refresh removes nothing; `taken` entries stay through every refresh."""

    def __init__(
        self,
        environment: Environment,
        files: OptOutFiles | None,
        index_path: Path | None,
        taken: Iterable[OptOutEntry] = (),
        on_change: Callable[[OptOutView], None] = lambda _: None,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or best_engine()
        self._files = files
        self._path = index_path
        self._on_change = on_change
        entries = [(entry.identity_hash, entry.advertising_id, int(entry.timestamp)) for entry in taken]
        self.view = OptOutView(self._engine.open_optouts(empty_index(environment).buffer)).with_entries(entries)
        self.failures = 0

    def load(self) -> bool:
        """Index the files where they changed; whether the view is new. Errors leave it as it was."""
        if not self._build():
            return False
        self._swap()
        return True

    async def refresh(self) -> bool:
        """`load` in a thread; whether it worked. A failure is logged and the old data stay."""
        try:
            changed = await asyncio.to_thread(self._build)
        except Uid2Error as error:
            self.failures += 1
            _log.error("opt-out refresh failed, the old data stay: %s", error.message)
            return False
        if changed:
            self._swap()
        return True

    async def run(self, period_seconds: float) -> None:
        """Refresh at the period until cancelled."""
        while True:
            await asyncio.sleep(period_seconds)
            await self.refresh()

    async def take(self, optout: OptOutRequest) -> None:
        """Honour a logout from now on; it is durable already."""
        entry = (bytes(optout.first_level_hash), bytes(optout.raw_uid), int(optout.at))
        self.view = self.view.with_entries([entry])
        self._on_change(self.view)

    def _build(self) -> bool:
        return self._files is not None and self._path is not None and self._files.build(self._path)

    def _swap(self) -> None:
        # On the event loop, as `take`: the overlay that counts is the one of this moment.
        assert self._path is not None
        self.view = OptOutView(self._engine.open_optouts(_mapped(self._path)), self.view.overlay)
        self._on_change(self.view)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
