"""RSA: wrapping of attestation tokens (PKCS#1 v1.5) and signatures RS256 (core chapter, 6.2 and 6.3)."""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

__all__ = [
    "RSAPrivateKey",
    "RSAPublicKey",
    "load_rsa_private_key",
    "load_rsa_public_key",
    "public_der",
    "sign",
    "unwrap",
    "wrap",
]

SMALLEST_BITS: Final = 2048
# A bound on the work that a key from outside can cause.
LARGEST_BITS: Final = 8192
PADDING_BYTES: Final = 11


def load_rsa_public_key(der: bytes) -> RSAPublicKey:
    """An RSA key of SubjectPublicKeyInfo DER with 2,048 to 8,192 bits; ValueError otherwise."""
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a SubjectPublicKeyInfo public key") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA public key")
    if not SMALLEST_BITS <= key.key_size <= LARGEST_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits, expected {SMALLEST_BITS} to {LARGEST_BITS}")
    return key


def load_rsa_private_key(data: bytes) -> RSAPrivateKey:
    """An RSA key of 2,048 bits or more, PEM or PKCS#8 DER, without a passphrase; ValueError otherwise."""
    load = load_pem_private_key if data.lstrip().startswith(b"-----") else load_der_private_key
    try:
        key = load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an RSA private key in PEM or DER") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SMALLEST_BITS:
        raise ValueError(f"not an RSA private key of {SMALLEST_BITS} bits or more")
    return key


def public_der(private_key: RSAPrivateKey) -> bytes:
    """SubjectPublicKeyInfo of the public half."""
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def wrap(public_key_der: bytes, text: bytes) -> bytes:
    """The ciphertext of a text; ValueError for an unusable key or a text longer than the key takes."""
    key = load_rsa_public_key(public_key_der)
    if len(text) > key.key_size // 8 - PADDING_BYTES:
        raise ValueError("the text is too long for the key")
    return key.encrypt(text, PKCS1v15())


def unwrap(private_key: RSAPrivateKey, blob: bytes) -> bytes:
    """The text of a ciphertext; ValueError when its length is wrong. A foreign ciphertext may give random bytes."""
    try:
        return private_key.decrypt(blob, PKCS1v15())
    except ValueError:
        raise ValueError("the ciphertext was not made for this key") from None


def sign(private_key: RSAPrivateKey, message: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256."""
    return private_key.sign(message, PKCS1v15(), SHA256())
