"""What production and the API need of a queue, whichever it is (opt-out chapter, 6.1 to 6.3)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from uid2.optout.messages import OptOutMessage, QueuedMessage

RECEIVE_SIZE: Final = 10


@dataclass(slots=True)
class Batch:
    """`malformed` are messages that hold no opt-out, with `messageId`, `body` and `attributes`."""

    messages: list[QueuedMessage] = field(default_factory=list)
    malformed: list[dict[str, Any]] = field(default_factory=list, repr=False)
    malformed_receipts: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.messages) + len(self.malformed)


class WritePlan(msgspec.Struct, frozen=True):
    """A file that is about to be written: enough to write it again with the same bytes under the same name."""

    path: str
    dropped: bool
    start: int
    end: int
    numbers: tuple[int, ...]


class QueueReader(Protocol):
    """Calls block."""

    def receive(self) -> Batch:
        """At most ten messages that this reader has not given yet; empty when there are none."""
        ...

    def in_flight(self) -> int:
        """Messages that some reader holds; 0 when that is not known."""
        ...

    def unfinished(self) -> tuple[WritePlan, list[QueuedMessage]] | None: ...

    def prepare(self, plan: WritePlan) -> None: ...

    def delete(self, messages: Sequence[QueuedMessage]) -> None: ...

    def delete_malformed(self, receipts: Sequence[str]) -> None: ...


class OptOutQueue(Protocol):
    async def send(self, message: OptOutMessage) -> int:
        """Returns when the message is durable. DurabilityError: it is not kept."""
        ...

    async def size(self) -> int: ...

    async def run(self) -> None: ...

    def reader(self) -> AbstractContextManager[QueueReader | None]:
        """None while another producer is at work and the queue allows one only."""
        ...
