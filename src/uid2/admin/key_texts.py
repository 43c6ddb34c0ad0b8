"""Texts of new keys (core chapter, 10.2 and 9.12). The settings give the prefix, `draw(n)` n random bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from uid2.admin.settings import UniverseSettings
from uid2.protocol.api_keys import hash_key
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import SiteId

BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SUBSCRIPTION_LENGTH: Final = 10
SALT_LENGTH: Final = 32
KEY_ID_TAIL: Final = 5
CURVE_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Draw = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """`text` is the clear key, to be shown once; `key_hash` and `key_salt` are what is stored of it."""

    text: str = field(repr=False)
    key_hash: str = field(repr=False)
    key_salt: str = field(repr=False)
    key_id: str


@dataclass(frozen=True, slots=True)
class KeyPairText:
    """A P-256 pair with the nine-character prefixes."""

    subscription_id: str
    public_key: str
    private_key: str = field(repr=False)


def issue_key(settings: UniverseSettings, kind: str, site_id: SiteId, draw: Draw) -> IssuedKey:
    """`kind`: `C` client, `O` operator. `<prefix><site>-<6 characters>.<38 characters>` of base64 of 32 bytes."""
    prefix = f"{settings.prefix(kind)}{site_id}-"
    tail, salt = encode_base64(draw(32)), draw(SALT_LENGTH)
    text = f"{prefix}{tail[:6]}.{tail[6:]}"
    return IssuedKey(text, hash_key(text, salt), encode_base64(salt), prefix + tail[:KEY_ID_TAIL])


def issue_key_pair(settings: UniverseSettings, draw: Draw) -> KeyPairText:
    """The private number comes from 48 drawn bytes, which leaves no bias to speak of."""
    number = int.from_bytes(draw(48), "big") % (CURVE_ORDER - 1) + 1
    private = ec.derive_private_key(number, ec.SECP256R1())
    public_der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private_der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return KeyPairText(
        subscription_id=_base58(SUBSCRIPTION_LENGTH, draw),
        public_key=settings.prefix("X") + encode_base64(public_der),
        private_key=settings.prefix("Y") + encode_base64(private_der),
    )


def _base58(length: int, draw: Draw) -> str:
    """Random characters without bias: bytes beyond the last whole multiple of 58 are drawn again."""
    text = ""
    while len(text) < length:
        text += "".join(BASE58[byte % 58] for byte in draw(length) if byte < 58 * 4)
    return text[:length]
