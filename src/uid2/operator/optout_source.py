"""The opt-out files as the service lists them, for the index (opt-out chapter, 8.1)."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, final

from uid2.operator.optout_service import OptOutService
from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE

T = TypeVar("T")


@final
class OptOutServiceFiles:
    """One list serves a whole refresh: partitions and deltas of every day come from the same answer."""

    def __init__(self, service: OptOutService) -> None:
        self._service = service
        self._addresses: dict[str, str] = {}

    def list(self, prefix: str) -> list[str]:
        listed = _in_two_attempts(self._service.files)
        self._addresses = {path: address for path, address in listed.items() if prefix in path}
        return sorted(self._addresses)

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        del limit
        raise StoreUnavailableError(f"{path} is fetched as a file", next_step="use fetch")

    def fetch(self, path: str, target: Path) -> int:
        return _in_two_attempts(lambda: self._service.fetch(self._addresses[path], target))


def _in_two_attempts(call: Callable[[], T]) -> T:
    """One connection that is cut does not cost a refresh, after which there is a pause."""
    try:
        return call()
    except StoreUnavailableError:
        return call()
