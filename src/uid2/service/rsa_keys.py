"""Fresh RSA keys: the randomness is the cryptographic library's own."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

BITS: Final = 2048
EXPONENT: Final = 65537


def new_rsa_key() -> RSAPrivateKey:
    """A key pair of 2,048 bits, never used before."""
    return generate_private_key(public_exponent=EXPONENT, key_size=BITS)
