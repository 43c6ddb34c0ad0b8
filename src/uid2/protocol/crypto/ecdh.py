"""P-256 key agreement (tokens chapter, 12.3)."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key


def load_private_key(der: bytes) -> EllipticCurvePrivateKey:
    """A P-256 key of PKCS#8 DER, with or without the public point inside; ValueError otherwise."""
    try:
        key = load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a PKCS#8 private key") from None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("not a P-256 private key")
    return key


def load_public_key(der: bytes) -> EllipticCurvePublicKey:
    """A P-256 key of SubjectPublicKeyInfo DER; ValueError otherwise."""
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a SubjectPublicKeyInfo public key") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("not a P-256 public key")
    return key


def shared_secret(private: EllipticCurvePrivateKey, public: EllipticCurvePublicKey) -> bytes:
    """The 32-byte x coordinate of the agreed point."""
    return private.exchange(ECDH(), public)
