"""What the supervising operator and its workers say to each other over their channels.

    operator ─▶ worker   state     Handover: everything a worker begins with
                         stores    the export folder names something newer
                         index     IndexFiles that came into force
                         optouts   Entries to honour from now on
                         metrics   ─▶ {"pid", "state"}
                         salts     ─▶ since when requests have used expired salts, epoch milliseconds or null
    worker ─▶ operator   logout    Logout; answered when it lasts and every worker honours it
                         health    ─▶ HealthState

Bytes travel as base64.
"""

from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from uid2.operator.context import OptOutRequest
from uid2.operator.settings import OperatorSettings
from uid2.protocol.ids import EpochSeconds, FirstLevelHash, RawUid
from uid2.protocol.secret import Secret

STATE, STORES, INDEX, OPTOUTS, METRICS, SALTS = "state", "stores", "index", "optouts", "metrics", "salts"
LOGOUT, HEALTH = "logout", "health"

Entry = tuple[bytes, bytes, int]
"""First-level hash, raw UID, epoch seconds."""
T = TypeVar("T", bound=msgspec.Struct)


class Handover(msgspec.Struct, frozen=True):
    """`index` is as in IndexFiles; `overlay` what came since in packed form, `fresh` the rest of it."""

    settings: dict[str, Any]
    stores: str
    environment: int
    index: list[str]
    overlay: str | None
    fresh: list[Entry]


class IndexFiles(msgspec.Struct, frozen=True):
    """Paths of the opt-out indices, the large one first; the content of a path never changes."""

    index: list[str]


class Entries(msgspec.Struct, frozen=True):
    entries: list[Entry]


class Logout(msgspec.Struct, frozen=True):
    first_level_hash: bytes
    raw_uid: bytes
    at: int
    email: str | None = None
    phone: str | None = None
    client_ip: str | None = None
    trace_id: str | None = None

    @classmethod
    def of(cls, optout: OptOutRequest) -> "Logout":
        return cls(
            bytes(optout.first_level_hash),
            bytes(optout.raw_uid),
            int(optout.at),
            optout.email,
            optout.phone,
            optout.client_ip,
            optout.trace_id,
        )

    def request(self) -> OptOutRequest:
        return OptOutRequest(
            FirstLevelHash(self.first_level_hash),
            RawUid(self.raw_uid),
            EpochSeconds(self.at),
            self.email,
            self.phone,
            self.client_ip,
            self.trace_id,
        )


class HealthState(msgspec.Struct, frozen=True):
    status: int
    body: str


def sent(message: msgspec.Struct) -> dict[str, Any]:
    """The message as plain JSON values."""
    return cast(dict[str, Any], msgspec.to_builtins(message))


def received(payload: Any, kind: type[T]) -> T:
    """The message that came as JSON."""
    return msgspec.convert(payload, kind)


def handed_settings(settings: OperatorSettings) -> dict[str, Any]:
    """Settings for a worker: without secrets, which only the supervising operator uses."""
    return cast(dict[str, Any], msgspec.to_builtins(settings, enc_hook=_plain))


def taken_settings(members: dict[str, Any]) -> OperatorSettings:
    return msgspec.convert(members, OperatorSettings, dec_hook=_typed)


def _plain(value: object) -> object:
    if isinstance(value, Secret):
        return None
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _typed(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind.__name__)
