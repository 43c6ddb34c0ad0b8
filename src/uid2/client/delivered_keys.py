"""Opening tokens with the keys an operator delivers to a client."""

from collections.abc import Iterable

from uid2.client.answers import SiteKey
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64
from uid2.protocol.ids import EpochSeconds, KeyId, KeysetId
from uid2.protocol.keysets import KeysetKey
from uid2.protocol.secret import Secret
from uid2.protocol.tokens.advertising import AdvertisingToken, open_advertising_token

UNNAMED_KEYSET = KeysetId(0)


def open_with(text: str, keys: Iterable[SiteKey]) -> AdvertisingToken:
    """The token under delivered keys; raises as `open_advertising_token`, ValueError when a secret is not base64."""
    ring = {KeyId(key.id): _keyset_key(key) for key in keys}
    return open_advertising_token(text, ring.get)


def _keyset_key(key: SiteKey) -> KeysetKey:
    secret = decode_base64(key.secret)
    return KeysetKey(
        id=KeyId(key.id),
        keyset_id=UNNAMED_KEYSET if key.keyset_id is None else KeysetId(key.keyset_id),
        created=EpochSeconds(key.created),
        activates=EpochSeconds(key.activates),
        expires=EpochSeconds(key.expires),
        secret=Secret(secret),
        gcm=GcmKey(secret),
    )
