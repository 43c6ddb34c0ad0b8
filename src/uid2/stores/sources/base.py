"""What every place that holds files can do.

Calls block; the refresher makes them in a thread.
"""

from typing import Final, Protocol

from uid2.protocol.errors import StoreUnavailableError

# Above any real file: a full salt snapshot has about 150 MB.
LARGEST_FILE: Final = 1 << 31


class BlobSource(Protocol):
    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        """The whole file; StoreUnavailableError when it is missing, larger than `limit` or cannot be fetched."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The paths that begin with `prefix`, sorted; StoreUnavailableError when they cannot be listed."""
        ...


def too_large(path: str, limit: int) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{path} is larger than {limit} bytes", next_step="check that the location names the right file"
    )
