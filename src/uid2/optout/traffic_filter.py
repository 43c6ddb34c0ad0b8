"""The deny list: opt-outs from named addresses in named times are set aside (opt-out chapter, 6.4)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from uid2.optout.messages import QueuedMessage
from uid2.optout.time_ranges import TimeRange, parse_range
from uid2.protocol.errors import ConfigurationError

KEY: Final = "traffic_filter_config_path"


@dataclass(frozen=True, slots=True)
class DenyRule:
    range: TimeRange
    addresses: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrafficFilter:
    rules: tuple[DenyRule, ...] = ()

    def denies(self, message: QueuedMessage) -> bool:
        """Whether a rule names its address and time. One without an address is never denied."""
        address = message.message.client_ip
        return address is not None and any(
            rule.range.holds(message.timestamp) and address in rule.addresses for rule in self.rules
        )


def parse_traffic_filter(data: bytes) -> TrafficFilter:
    """ConfigurationError names the rule that is wrong; then none of them counts."""
    document = read_object(data, KEY)
    rules = document.get("denylist_requests")
    if not isinstance(rules, list):
        raise ConfigurationError(
            f"{KEY}: denylist_requests must be an array", next_step="add it; an empty array denies nothing"
        )
    return TrafficFilter(tuple(_rule(rule, f"{KEY}: denylist_requests[{n}]") for n, rule in enumerate(rules)))


def load_traffic_filter(path: Path | None) -> TrafficFilter:
    """Without a file nothing is denied."""
    return TrafficFilter() if path is None else parse_traffic_filter(read_file(path, KEY))


def read_file(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{key}: the file cannot be read: {error.strerror}", next_step=f"check {key} and the rights of the file"
        ) from None


def read_object(data: bytes, key: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{key}: the file is no JSON object", next_step="correct the file")
    return document


def _rule(value: Any, where: str) -> DenyRule:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be an object", next_step="give it the members range and IPs")
    addresses = value.get("IPs")
    if not isinstance(addresses, list) or not addresses or not all(isinstance(part, str) for part in addresses):
        raise ConfigurationError(
            f"{where}.IPs must be an array of addresses", next_step="name at least one address as a text"
        )
    return DenyRule(parse_range(value.get("range"), f"{where}.range"), frozenset(addresses))
