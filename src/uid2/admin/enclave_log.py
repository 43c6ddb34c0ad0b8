"""What was trusted when and by whom: `admin/enclave_log.jsonl`, append-only, chained and signed.

Each line is one JSON object; `previous` is the SHA-256 of the line before (of nothing for the first), `signature` the
Ed25519 signature over the line without that member, by `key`, one of the keys that the universe's settings list.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ConfigurationError

ENCLAVE_LOG: Final = "admin/enclave_log.jsonl"


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`at` in epoch seconds; `source`: `record`, `quote` or `identifier`; `evidence`: SHA-256 of what was presented."""

    number: int
    at: int
    actor: str
    action: str
    name: str
    protocol: str
    identifier: str
    source: str
    evidence: str | None
    previous: str
    key: str


def append(change: Change, key: Ed25519PrivateKey, entry: dict[str, Any]) -> LogEntry:
    """Add a line; `entry` holds the members that the log does not make itself. RefusedError: the log is not whole."""
    lines = _lines(change)
    entries = verified_log(change)
    public = public_text(key)
    if public not in change.settings.enclave_log_keys:
        raise RefusedError(
            "this signing key is not one of the universe's", next_step="give the key that `uid2 admin init` made"
        )
    line = msgspec.convert(
        {
            "number": len(entries) + 1,
            "at": int(change.now),
            "previous": hashlib.sha256(lines[-1] if lines else b"").hexdigest(),
            "key": public,
            **entry,
        },
        LogEntry,
    )
    members = msgspec.to_builtins(line)
    signed = msgspec.json.encode(members)
    members["signature"] = encode_base64(key.sign(signed))
    whole = b"".join(old + b"\n" for old in (*lines, msgspec.json.encode(members)))
    change.put_document(ENCLAVE_LOG, whole, "enclave log")
    return line


def verified_log(change: Change) -> list[LogEntry]:
    """Every entry. RefusedError names the first line that does not follow from the ones before or is not signed."""
    known = change.settings.enclave_log_keys
    found, previous = [], hashlib.sha256(b"").hexdigest()
    for number, line in enumerate(_lines(change), start=1):
        try:
            members: Any = msgspec.json.decode(line)
            signature = decode_base64(members.pop("signature"))
            entry = msgspec.convert(members, LogEntry)
            if entry.key not in known or entry.previous != previous or entry.number != number:
                raise ValueError("out of order")
            signer = Ed25519PublicKey.from_public_bytes(decode_base64(entry.key))
            signer.verify(signature, msgspec.json.encode(members))
        except (msgspec.MsgspecError, InvalidSignature, AttributeError, KeyError, TypeError, ValueError):
            raise RefusedError(
                f"line {number} of {ENCLAVE_LOG} has been changed, or lines before it are missing",
                next_step="compare it with a copy of the store; nothing is registered until the log is whole again",
            ) from None
        found.append(entry)
        previous = hashlib.sha256(line).hexdigest()
    return found


def new_key_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> Ed25519PrivateKey:
    """ConfigurationError: no Ed25519 key in that file."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} holds no signing key that can be read: {type(error).__name__}",
            next_step="give the file that `uid2 admin init` wrote: --log-key FILE",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} holds no Ed25519 key", next_step="give the file that `uid2 admin init` wrote")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    return encode_base64(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def _lines(change: Change) -> list[bytes]:
    return (change.document(ENCLAVE_LOG) or b"").splitlines()
