"""AES-CBC with PKCS#7 padding, used by version 2 tokens only (tokens chapter, section 2).

0      16
├─ IV ─┼─ ciphertext, 16 · (⌊n / 16⌋ + 1) bytes
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from uid2.protocol.errors import InternalTokenError

IV_LENGTH: Final = 16
_BLOCK_BITS: Final = 128


def encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """`IV ‖ ciphertext`."""
    padder = PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return iv + encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def decrypt(key: bytes, blob: bytes) -> bytes:
    """The plaintext of `IV ‖ ciphertext`; InternalTokenError when the length or the padding is wrong."""
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    try:
        decryptor = Cipher(AES(key), CBC(blob[:IV_LENGTH])).decryptor()
        padded = decryptor.update(blob[IV_LENGTH:]) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise InternalTokenError("Unable to Decrypt") from None
