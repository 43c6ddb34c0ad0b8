"""Buckets of old deployments, where `delta` is called `log` and `partition` is called `snapshot` (3.6)."""

from typing import final

from uid2.stores.sources.base import LARGEST_FILE, BlobSource


def outside(path: str) -> str:
    """The key in the bucket of an old deployment."""
    return path.replace("delta", "log").replace("partition", "snapshot")


def inside(path: str) -> str:
    return path.replace("log", "delta").replace("snapshot", "partition")


@final
class RenamedSource:
    """The files of such a bucket under the names of today."""

    def __init__(self, source: BlobSource) -> None:
        self._source = source

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        return self._source.read(outside(path), limit)

    def list(self, prefix: str) -> list[str]:
        return [inside(path) for path in self._source.list(outside(prefix))]
