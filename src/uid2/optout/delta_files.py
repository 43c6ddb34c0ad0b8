"""The bytes of delta files and of the JSON files of dropped and malformed requests (opt-out chapter, 3.3 and 6.2)."""

from collections.abc import Iterable
from typing import Any

import msgspec

from uid2.optout.messages import QueuedMessage
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, encode_entry, end_entry, start_entry


def delta_bytes(entries: Iterable[OptOutEntry], start: EpochSeconds, end: EpochSeconds) -> bytes:
    """Start entry, entries in their order, end entry."""
    return b"".join(encode_entry(entry) for entry in (start_entry(start), *entries, end_entry(end)))


def dropped_bytes(messages: Iterable[QueuedMessage]) -> bytes:
    """A pretty-printed array of the bodies."""
    return _pretty([msgspec.json.decode(message.message.encode()) for message in messages])


def malformed_bytes(messages: Iterable[dict[str, Any]]) -> bytes:
    return _pretty(list(messages))


def _pretty(document: list[Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
