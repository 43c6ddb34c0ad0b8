"""The one identity of a token request (operator chapter, 6.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uid2.protocol.errors import ClientInputError
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import FirstLevelHash
from uid2.protocol.json_text import text_of
from uid2.protocol.normalize import InputKind, identity_hash_from

EMAIL_KINDS = (InputKind.EMAIL, InputKind.EMAIL_HASH)


class MissingIdentityError(ClientInputError):
    """None of the fields, or more than one."""


class InvalidIdentityError(ClientInputError):
    """The field holds no identity."""


@dataclass(frozen=True, slots=True)
class SingleIdentity:
    """`text` is what the caller sent."""

    kind: InputKind
    text: str = field(repr=False)
    first_level_hash: FirstLevelHash = field(repr=False)


def read_single_identity(
    document: Mapping[str, Any] | None, first_level_salt: str, *, phone_support: bool
) -> SingleIdentity:
    """The identity of a payload; MissingIdentityError or InvalidIdentityError with the text of the answer."""
    kinds = tuple(InputKind) if phone_support else EMAIL_KINDS
    given = [(kind, document[kind.value]) for kind in kinds if document and document.get(kind.value) is not None]
    if len(given) != 1:
        raise MissingIdentityError(missing_identity_text(phone_support))
    ((kind, value),) = given
    text = text_of(value)
    identity_hash = identity_hash_from(kind, text)
    if identity_hash is None:
        raise InvalidIdentityError("Invalid Identifier")
    return SingleIdentity(kind, text, first_level_hash(identity_hash, first_level_salt))


def missing_identity_text(phone_support: bool) -> str:
    """The text for none or several identity fields."""
    fields = "[email, email_hash, phone, phone_hash]" if phone_support else "email or email_hash"
    return f"Required Parameter Missing: exactly one of {fields} must be specified"
