"""Logs: one JSON object per line on standard error, or short lines for people."""

import logging
import sys
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from uid2.service.redaction import redact

_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore")


class _RedactedJson(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        next_step = getattr(record, "next_step", "")
        return redact(f"{text}\n  next step: {next_step}" if next_step else text)


def json_formatter(static: dict[str, Any] | None = None) -> logging.Formatter:
    return _RedactedJson(
        "{asctime}{levelname}{name}{message}",
        style="{",
        rename_fields={"asctime": "timestamp", "levelname": "level", "name": "logger"},
        static_fields=static or {},
    )


def set_up_logs(
    *, console: bool = False, level: int = logging.INFO, stream: TextIO | None = None, **static: Any
) -> None:
    """Replaces the handlers of the root logger; `static` fields stand in every line. Libraries speak from warnings."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        _Console("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S") if console else json_formatter(static)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL if name.startswith("uvicorn") else logging.WARNING)
