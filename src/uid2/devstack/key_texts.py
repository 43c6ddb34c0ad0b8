"""Texts of new client keys and client-side key pairs (core chapter, 10.2 and 9.12)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from uid2.protocol.encoding import encode_base64

BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SUBSCRIPTION_LENGTH: Final = 10
CURVE_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class KeyPairText:
    """A P-256 pair with the nine-character prefixes; the private half stays out of `repr`."""

    subscription_id: str
    public_key: str
    private_key: str

    def __repr__(self) -> str:
        return f"KeyPairText({self.subscription_id!r})"


def draw_key_text(prefix: str, draw: Callable[[int], bytes]) -> str:
    """`<prefix><6 characters>.<38 characters>`: base64 of 32 random bytes with a dot after the sixth."""
    tail = encode_base64(draw(32))
    return f"{prefix}{tail[:6]}.{tail[6:]}"


def draw_key_pair(product: str, draw: Callable[[int], bytes]) -> KeyPairText:
    """`product` is `UID2` or `EUID`. The private number comes from 48 drawn bytes, which leaves no bias to speak of."""
    number = int.from_bytes(draw(48), "big") % (CURVE_ORDER - 1) + 1
    private = ec.derive_private_key(number, ec.SECP256R1())
    public_der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private_der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    letters = "".join(BASE58[byte % len(BASE58)] for byte in draw(SUBSCRIPTION_LENGTH))
    return KeyPairText(
        subscription_id=letters,
        public_key=f"{product}-X-L-{encode_base64(public_der)}",
        private_key=f"{product}-Y-L-{encode_base64(private_der)}",
    )
