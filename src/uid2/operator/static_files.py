"""GET and HEAD /static/*: the files of one folder (operator chapter, 1.4)."""

import mimetypes
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from uid2.service.messages import Request, Response, not_found

PREFIX: Final = "/static/"
CACHE: Final = "public, immutable, max-age=86400"
INDEX_PAGE: Final = "index.html"
# Small files only: a script or a page. Anything larger does not belong in the enclave's memory.
LARGEST: Final = 16 << 20

# More digits than any file size has are no range at all.
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class StaticFiles:
    """The files below `folder`, links resolved; nothing outside it is ever read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def client_versions(self) -> frozenset[str]:
        """The base names of the scripts, by which client versions are counted."""
        return frozenset(path.stem for path in self._folder.rglob("*.js") if path.is_file())

    async def __call__(self, request: Request) -> Response:
        path = self._find(request.path)
        if path is None:
            return not_found()
        stat = path.stat()
        modified = datetime.fromtimestamp(int(stat.st_mtime), UTC)
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = (
            ("cache-control", CACHE),
            ("last-modified", format_datetime(modified, usegmt=True)),
            ("accept-ranges", "bytes"),
        )
        if _not_modified(request, modified):
            return Response(304, headers=headers)
        span = _span(request, stat.st_size)
        if span is None:
            return Response(416, headers=(*headers, ("content-range", f"bytes */{stat.st_size}")))
        first, last = span
        with path.open("rb") as stream:
            stream.seek(first)
            body = stream.read(last - first + 1)
        if len(body) < stat.st_size:
            ranged = (*headers, ("content-range", f"bytes {first}-{last}/{stat.st_size}"))
            return Response(206, body, media_type, ranged)
        return Response(200, body, media_type, headers)

    def _find(self, request_path: str) -> Path | None:
        name = unquote(request_path.removeprefix(PREFIX))
        try:
            path = (self._folder / name.lstrip("/")).resolve()
            if path.is_dir():
                path = (path / INDEX_PAGE).resolve()
            if not path.is_relative_to(self._folder) or not path.is_file() or path.stat().st_size > LARGEST:
                return None
        except (OSError, ValueError, RuntimeError):
            # Names that no file system takes: too long, with a zero byte, links in a circle.
            return None
        return path


def _not_modified(request: Request, modified: datetime) -> bool:
    since = request.header("if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since)
    except (ValueError, OverflowError):
        return False
    return modified <= (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _span(request: Request, size: int) -> tuple[int, int] | None:
    """First and last byte to send; None when the range lies beyond the file. Other forms of ranges are ignored."""
    whole = (0, size - 1)
    found = _RANGE.fullmatch(request.header("range") or "")
    if found is None or found[0] == "bytes=-":
        return whole
    if not found[1]:
        length = int(found[2])
        return (max(0, size - length), size - 1) if length and size else None
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if first >= size:
        return None
    return whole if last < first else (first, min(last, size - 1))
