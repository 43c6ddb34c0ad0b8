"""Which platforms are good enough, as data (enclave chapter, 2.4 and 2.5; key `attestation_policy`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from uid2.protocol.errors import ConfigurationError

# Exact spellings, by growing severity.
STATUSES: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
OUT_OF_DATE: Final = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})
DEFAULT_STATUSES: Final = frozenset(STATUSES[:4])
_LARGEST_GRACE_DAYS: Final = 365
_NEXT_STEP: Final = (
    'give {"accepted_statuses": [status, …], "accepted_advisories": [id, …] or "any", "grace_days": whole number}'
)


@dataclass(frozen=True, slots=True)
class TcbPolicy:
    """`accepted_advisories` None: any. Within `grace_days` of a level's TCB date out-of-date platforms pass too.

    `minimum_evaluation_number` refuses older TCB info and QE identity, so that nobody can bring back forgotten levels.
    """

    accepted_statuses: frozenset[str] = DEFAULT_STATUSES
    accepted_advisories: frozenset[str] | None = None
    grace_days: int = 0
    minimum_evaluation_number: int = 0


def parse_policy(members: object) -> TcbPolicy:
    """The policy of a JSON object; absent members have their defaults. Raises ConfigurationError."""
    if not isinstance(members, Mapping):
        raise _wrong("it is not a JSON object")
    known = {"accepted_statuses", "accepted_advisories", "grace_days", "minimum_evaluation_number"}
    if unknown := sorted(set(members) - known):
        raise _wrong(f"unknown member {unknown[0]}")
    statuses = _texts(members, "accepted_statuses", DEFAULT_STATUSES)
    if wrong := sorted(statuses - set(STATUSES)):
        raise _wrong(f"unknown status {wrong[0]}; known are {', '.join(STATUSES)}")
    if "Revoked" in statuses:
        raise _wrong("a revoked platform is never accepted")
    advisories = members.get("accepted_advisories", "any")
    return TcbPolicy(
        accepted_statuses=statuses,
        accepted_advisories=None if advisories == "any" else _texts(members, "accepted_advisories", frozenset()),
        grace_days=_number(members, "grace_days", _LARGEST_GRACE_DAYS),
        minimum_evaluation_number=_number(members, "minimum_evaluation_number", 1 << 31),
    )


def _texts(members: Mapping[str, Any], name: str, default: frozenset[str]) -> frozenset[str]:
    value = members.get(name, default)
    if isinstance(value, frozenset):
        return value
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _wrong(f"{name} is not a list of texts")
    return frozenset(value)


def _number(members: Mapping[str, Any], name: str, largest: int) -> int:
    value = members.get(name, 0)
    if type(value) is not int or not 0 <= value <= largest:
        raise _wrong(f"{name} is not a whole number from 0 to {largest}")
    return value


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"attestation_policy: {what}", next_step=_NEXT_STEP)
