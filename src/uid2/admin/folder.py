"""Where an administrator's stores lie: a bucket named by URL, with writes that notice other writers.

A tag stands for one content of one object. `put(path, data, expected)` replaces an object only when its tag still is
`expected` (ABSENT: only when there is none; None: whatever is there) and raises ConflictError otherwise. Every put is
whole or not at all, and lasts once it has returned.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from uid2.protocol.errors import ConfigurationError

ABSENT: Final = ""


@dataclass(frozen=True, slots=True)
class Blob:
    data: bytes = field(repr=False)
    tag: str


class Folder(Protocol):
    @property
    def name(self) -> str:
        """The URL, for people."""
        ...

    def read(self, path: str) -> Blob | None:
        """None when there is no such object; StoreUnavailableError when it cannot be read."""
        ...

    def put(self, path: str, data: bytes, expected: str | None = None) -> None: ...

    def delete(self, path: str) -> None:
        """Absent objects count as deleted."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Paths of all objects below `prefix`, which ends with a slash; sorted."""
        ...


def open_folder(url: str) -> Folder:
    """The folder of a URL: `file:///…` (or a plain path), `s3://`, `az://`, `gs://`."""
    from uid2.admin.local_folder import LocalFolder
    from uid2.admin.object_folder import open_object_folder

    if not url:
        raise ConfigurationError("no store is named", next_step="give --store URL or set UID2_STORE")
    if "://" not in url:
        return LocalFolder(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigurationError(
                f"{url} names a host, not a folder", next_step="write file:///absolute/path with three slashes"
            )
        return LocalFolder(Path(unquote(parts.path)))
    return open_object_folder(url)
