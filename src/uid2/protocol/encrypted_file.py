"""Store files encrypted per site (core chapter, 8.4).

    {"key_id": 5, "encryption_version": "1.0", "encrypted_payload": base64(IV 12 ‖ ciphertext ‖ tag 16)}

AES-256-GCM without associated data; the plaintext is the content file as it is.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import InternalTokenError, StoreFormatError
from uid2.protocol.store_json import parse_json, write_json

ENCRYPTION_VERSION: Final = "1.0"
KEY_NOT_FOUND: Final = "KEY_NOT_FOUND"
DECRYPTION_FAILURE: Final = "INTERNAL_DECRYPTION_FAILURE"


class OpenedFile(NamedTuple):
    """`key_id` is the key that the file names."""

    key_id: int
    plaintext: bytes


class FileDecryptionError(StoreFormatError):
    """A file of the right form that does not open; `status` is KEY_NOT_FOUND or DECRYPTION_FAILURE."""

    def __init__(self, message: str, key_id: int, status: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.key_id, self.status = key_id, status


def open_store_file(data: bytes, keys: Mapping[int, CloudKey], store: str) -> OpenedFile:
    """The plaintext, by the key the file names whether active or not.

    StoreFormatError: not an encrypted file. FileDecryptionError: the key is missing or does not fit.
    """
    document: Any = None
    with suppress(StoreFormatError):
        document = parse_json(data)
    members = document if isinstance(document, dict) else {}
    key_id, payload = members.get("key_id"), members.get("encrypted_payload")
    if not isinstance(key_id, int) or isinstance(key_id, bool) or not isinstance(payload, str):
        raise StoreFormatError("Failed to parse JSON", next_step="check that the store's files are encrypted")
    key = keys.get(key_id)
    if key is None:
        raise FileDecryptionError(
            f"No matching key found for S3 file decryption - key_id={key_id} store={store}",
            key_id,
            KEY_NOT_FOUND,
            next_step="wait for the next refresh of the cloud encryption keys, or check the site's keys",
        )
    try:
        return OpenedFile(key_id, key.gcm.open(decode_base64(payload)))
    except (InternalTokenError, ValueError):
        raise FileDecryptionError(
            f"Internal decryption failure - key_id={key_id} store={store}",
            key_id,
            DECRYPTION_FAILURE,
            next_step="write the encrypted file again",
        ) from None


def encrypt_store_file(plaintext: bytes, key: CloudKey, iv: bytes) -> bytes:
    """`iv`: 12 fresh random bytes."""
    return write_json(
        {
            "key_id": key.id,
            "encryption_version": ENCRYPTION_VERSION,
            "encrypted_payload": encode_base64(key.gcm.seal(iv, plaintext)),
        }
    )
