"""An opt-out on its way from the API to a delta file (opt-out chapter, 2.3 and 6.1).

{"identity_hash":b64,"advertising_id":b64,"uid_trace_id":…,"client_ip":…,"email":…,"phone":…}   absent ones are null
"""

from hashlib import blake2b
from typing import Any, Final

import msgspec

from uid2.protocol.encoding import decode_base64
from uid2.protocol.ids import EpochMillis, EpochSeconds
from uid2.protocol.json_text import parse_object
from uid2.protocol.optout_log import HASH_LENGTH, SPECIAL_HASHES, OptOutEntry

ID_LENGTHS: Final = (HASH_LENGTH, HASH_LENGTH + 1)
MARK_LENGTH: Final = 16
_OPTIONAL: Final = ("uid_trace_id", "client_ip", "email", "phone")


class UnusableMessageError(ValueError):
    """A message that no delta can hold."""


class OptOutMessage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One opt-out. `trace_id` names the attempt: the same opt-out under the same id counts once."""

    identity_hash: bytes
    advertising_id: bytes
    trace_id: str | None = msgspec.field(default=None, name="uid_trace_id")
    client_ip: str | None = None
    email: str | None = None
    phone: str | None = None

    def __repr__(self) -> str:
        """Nothing of it: all of its members tell of a person."""
        return "OptOutMessage()"

    @property
    def mark(self) -> bytes | None:
        """16 bytes that are the same for the same attempt; None without a trace id.

        The opt-out itself is part of it: callers forward ids that they have not made, and no opt-out may be taken
        for another one.
        """
        if self.trace_id is None:
            return None
        text = self.trace_id.encode("utf-8", "surrogatepass")
        return blake2b(text + self.identity_hash + self.advertising_id, digest_size=MARK_LENGTH).digest()

    def entry(self, timestamp: EpochSeconds) -> OptOutEntry:
        return OptOutEntry(self.identity_hash, self.advertising_id, timestamp)

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    def without_person(self) -> "OptOutMessage":
        """Without the texts that name somebody: what stays on this machine's disk."""
        return msgspec.structs.replace(self, email=None, phone=None)

    @classmethod
    def decode(cls, body: bytes) -> "OptOutMessage":
        """UnusableMessageError: no JSON object, a member missing, bad base64, a wrong length."""
        try:
            message = _IN_OWN_FORM.decode(body)
        except (ValueError, RecursionError):
            return cls._of_others(body)
        _check_hash(message.identity_hash)
        _check_id(message.advertising_id)
        return message

    @classmethod
    def _of_others(cls, body: bytes) -> "OptOutMessage":
        """With more members, without padding, and whatever else the API takes."""
        try:
            members = parse_object(body)
        except ValueError as error:
            raise UnusableMessageError(str(error)) from None
        optional = {name: _optional(members, name) for name in _OPTIONAL}
        return cls(
            identity_hash_of(members.get("identity_hash")),
            advertising_id_of(members.get("advertising_id")),
            optional.pop("uid_trace_id"),
            **optional,
        )


_IN_OWN_FORM: Final = msgspec.json.Decoder(OptOutMessage)


class QueuedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message in a queue. `number` is its place, `receipt` what another queue needs to delete it.

    `delivery` is the queue's own name of the message, the same each time it is given.
    """

    number: int
    sent: EpochMillis
    message: OptOutMessage
    receipt: str = ""
    delivery: str = ""

    def __repr__(self) -> str:
        return f"QueuedMessage({self.number})"

    @property
    def named(self) -> OptOutMessage:
        """What all instances may know of it: no person, no address, and an id in any case."""
        message = self.message
        return OptOutMessage(message.identity_hash, message.advertising_id, message.trace_id or self.delivery or None)

    @property
    def mark(self) -> bytes | None:
        """That of the attempt, else that of the message: the same wherever the opt-out turns up again."""
        return self.named.mark

    @property
    def timestamp(self) -> EpochSeconds:
        return EpochSeconds(self.sent // 1000)

    @property
    def entry(self) -> OptOutEntry:
        return self.message.entry(self.timestamp)


def identity_hash_of(value: Any) -> bytes:
    """32 bytes that are neither all zero nor all one; UnusableMessageError says what is wrong."""
    data = _decoded("identity_hash", value)
    _check_hash(data)
    return data


def advertising_id_of(value: Any) -> bytes:
    """32 or 33 bytes; UnusableMessageError says what is wrong."""
    data = _decoded("advertising_id", value)
    _check_id(data)
    return data


def _check_hash(data: bytes) -> None:
    if len(data) != HASH_LENGTH:
        raise UnusableMessageError(f"identity_hash must be base64 of {HASH_LENGTH} bytes, not {len(data)}")
    if data in SPECIAL_HASHES:
        raise UnusableMessageError("identity_hash is one of the two values that mark the ends of a file")


def _check_id(data: bytes) -> None:
    if len(data) not in ID_LENGTHS:
        raise UnusableMessageError(f"advertising_id must be base64 of 32 or 33 bytes, not {len(data)}")


def _decoded(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise UnusableMessageError(f"{name} is missing")
    if " " in value:
        raise UnusableMessageError(f"{name} holds a space: write a plus sign as %2B")
    try:
        return decode_base64(value)
    except ValueError:
        raise UnusableMessageError(f"{name} is not standard base64") from None


def _optional(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise UnusableMessageError(f"{name} must be a text")
    return value
