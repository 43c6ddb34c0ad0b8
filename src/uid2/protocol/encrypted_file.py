"""Store files encrypted per site (core chapter, 8.4).

    {"key_id": 5, "encryption_version": "1.0", "encrypted_payload": base64(IV 12 ‖ ciphertext ‖ tag 16)}

AES-256-GCM without associated data; the plaintext is the content file as it is.
"""

from collections.abc import Mapping
from typing import Final

from uid2.protocol.cloud_keys import CloudKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import InternalTokenError, StoreFormatError
from uid2.protocol.store_json import parse_json, write_json

ENCRYPTION_VERSION: Final = "1.0"


def decrypt_store_file(data: bytes, keys: Mapping[int, CloudKey], store: str) -> bytes:
    """The plaintext, by the key the file names whether active or not; StoreFormatError otherwise."""
    try:
        document = parse_json(data)
    except StoreFormatError:
        document = None
    key_id, payload = (
        (document.get("key_id"), document.get("encrypted_payload"))
        if isinstance(document, dict)
        else (
            None,
            None,
        )
    )
    if not isinstance(key_id, int) or isinstance(key_id, bool) or not isinstance(payload, str):
        raise StoreFormatError("Failed to parse JSON", next_step="check that the store's files are encrypted")
    key = keys.get(key_id)
    if key is None:
        raise StoreFormatError(
            f"No matching key found for S3 file decryption - key_id={key_id} store={store}",
            next_step="wait for the next refresh of the cloud encryption keys, or check the site's keys",
        )
    try:
        return key.gcm.open(decode_base64(payload))
    except (InternalTokenError, ValueError):
        raise StoreFormatError(
            f"Internal decryption failure - key_id={key_id} store={store}",
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
