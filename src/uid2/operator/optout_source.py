"""The opt-out files as the service lists them, for the index (opt-out chapter, 8.1)."""

from pathlib import Path
from typing import final

from uid2.operator.optout_service import OptOutService
from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.base import LARGEST_FILE


@final
class OptOutServiceFiles:
    """One list serves a whole refresh: partitions and deltas of every day come from the same answer."""

    def __init__(self, service: OptOutService) -> None:
        self._service = service
        self._addresses: dict[str, str] = {}

    def list(self, prefix: str) -> list[str]:
        listed = self._service.files()
        self._addresses = {path: address for path, address in listed.items() if prefix in path}
        return sorted(self._addresses)

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        del limit
        raise StoreUnavailableError(f"{path} is fetched as a file", next_step="use fetch")

    def fetch(self, path: str, target: Path) -> int:
        return self._service.fetch(self._addresses[path], target)
