"""Who must hear of every change of an operator's data: its workers, where it has some."""

from collections.abc import Sequence
from typing import Protocol

from uid2.protocol.ids import EpochMillis


class Followers(Protocol):
    """Called on the event loop. What only announces returns at once."""

    def stores_changed(self) -> None: ...

    def index_changed(self) -> None: ...

    async def optouts_taken(self, entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Returns when every worker that answers requests honours them."""

    async def salts_expired_since(self) -> EpochMillis | None:
        """Since when requests have used expired salts; None when none has."""
