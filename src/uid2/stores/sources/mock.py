"""The stand-alone mode: absolute resource paths such as `/com.uid2.core/test/sites/metadata.json` below one folder."""

from pathlib import Path
from typing import final

from uid2.stores.sources.base import LARGEST_FILE
from uid2.stores.sources.local import LocalSource


@final
class MockSource:
    """`storage_mock`: a path with or without its leading slash names the file below `root`."""

    def __init__(self, root: Path) -> None:
        self._files = LocalSource(root)

    def read(self, path: str, limit: int = LARGEST_FILE) -> bytes:
        return self._files.read(path.lstrip("/"), limit)

    def list(self, prefix: str) -> list[str]:
        slash = "/" if prefix.startswith("/") else ""
        return [slash + path for path in self._files.list(prefix.lstrip("/"))]
