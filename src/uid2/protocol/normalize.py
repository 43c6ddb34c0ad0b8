"""The four identity fields and their normal forms (operator chapter, section 6)."""

import re
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from uid2.protocol.encoding import decode_base64
from uid2.protocol.ids import IdentityHash, IdentityType

_PHONE: Final = re.compile(r"\+[0-9]{10,15}")
_HEX_HASH: Final = re.compile(r"[0-9A-Fa-f]{64}")
_BASE64_HASH_LENGTH: Final = 44
_FOLD_ASCII: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


class InputKind(StrEnum):
    """A field that carries an identity; the value is its JSON name."""

    EMAIL = "email"
    EMAIL_HASH = "email_hash"
    PHONE = "phone"
    PHONE_HASH = "phone_hash"

    @property
    def identity_type(self) -> IdentityType:
        return IdentityType.PHONE if self in (InputKind.PHONE, InputKind.PHONE_HASH) else IdentityType.EMAIL


def normalize_email(text: str) -> str | None:
    """The normal form of an address, None when it is invalid (operator chapter, 6.1)."""
    # Only ASCII letters are folded: full lower-casing would change other scripts and with them the hash.
    folded = text.lower() if text.isascii() else text.translate(_FOLD_ASCII)
    local, at, domain = folded.partition("@")
    local, domain = local.replace(" ", ""), domain.rstrip(" ")
    if not at or not domain or "@" in domain:
        return None
    if domain == "gmail.com":
        local = local.partition("+")[0].replace(".", "")
    return f"{local}@{domain}" if local else None


def is_phone(text: str) -> bool:
    """Whether the text is `+` and 10 to 15 ASCII digits."""
    return _PHONE.fullmatch(text) is not None


def identity_hash_from(kind: InputKind, text: str) -> IdentityHash | None:
    """The identity hash of a field, None when the text is invalid."""
    return _HASHERS[kind](text)


def hasher_of(kind: InputKind) -> Callable[[str], IdentityHash | None]:
    """`identity_hash_from` of one kind, for many texts."""
    return _HASHERS[kind]


def _hash_of_email(text: str) -> IdentityHash | None:
    normalized = normalize_email(text)
    return None if normalized is None else _hash_of_text(normalized)


def _hash_of_phone(text: str) -> IdentityHash | None:
    return _hash_of_text(text) if is_phone(text) else None


def _hash_of_text(normalized: str) -> IdentityHash | None:
    try:
        return IdentityHash(sha256(normalized.encode()).digest())
    except UnicodeEncodeError:
        return None  # a lone surrogate has no UTF-8 form


def _supplied_hash(text: str) -> IdentityHash | None:
    if len(text) == _BASE64_HASH_LENGTH:
        try:
            return IdentityHash(decode_base64(text))
        except ValueError:
            return None
    return IdentityHash(bytes.fromhex(text)) if _HEX_HASH.fullmatch(text) else None


_HASHERS: Final[dict[InputKind, Callable[[str], IdentityHash | None]]] = {
    InputKind.EMAIL: _hash_of_email,
    InputKind.EMAIL_HASH: _supplied_hash,
    InputKind.PHONE: _hash_of_phone,
    InputKind.PHONE_HASH: _supplied_hash,
}
