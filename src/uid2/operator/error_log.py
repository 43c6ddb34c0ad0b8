"""One log line for each error that a handler words (operator chapter, 14.1)."""

import logging
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from uid2.service.messages import JSON, Request, Response

LONGEST_TEXT: Final = 256

_log = logging.getLogger(__name__)


def log_refusal(request: Request, response: Response) -> None:
    """A completion hook: `Response to http request. {…}` for JSON answers from 400 on."""
    if response.status < 400 or response.content_type != JSON:
        return
    answer: dict[str, Any] = msgspec.json.decode(response.body)
    client = request.attributes.get("client")
    line: dict[str, Any] = {
        "errorStatus": answer.get("status"),
        "contact": None if client is None else client.contact,
        "siteId": None if client is None else client.site_id,
        "path": request.route_path,
        "statusCode": response.status,
        "clientAddress": request.client[:LONGEST_TEXT],
        "message": answer.get("message"),
    }
    if response.status < 500:
        line["referer"] = _origin_of(request.header("referer"))
        line["origin"] = _origin_of(request.header("origin"))
    level = logging.WARNING if response.status < 500 else logging.ERROR
    _log.log(level, "Response to http request. %s", msgspec.json.encode(line).decode())


def _origin_of(url: str | None) -> str | None:
    """Scheme and authority only: path and query of a page's address may name a person."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    return None if not host else f"{parts.scheme}://{host}"[:LONGEST_TEXT]
