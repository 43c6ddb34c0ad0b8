"""AES-GCM with the nonce in front (tokens chapter, section 2).

0      12           12 + n    28 + n
├─ IV ─┼─ ciphertext ─┼─ tag ─┤
"""

from typing import Final, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from uid2.protocol.errors import InternalTokenError

IV_LENGTH: Final = 12
TAG_LENGTH: Final = 16
OVERHEAD: Final = IV_LENGTH + TAG_LENGTH
KEY_LENGTHS: Final = frozenset((16, 24, 32))


@final
class GcmKey:
    """One AES key with its schedule made once. ValueError when the key is not 16, 24 or 32 bytes."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) not in KEY_LENGTHS:
            raise ValueError(f"an AES key has 16, 24 or 32 bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, iv: bytes, plaintext: bytes, aad: bytes | None = None) -> bytes:
        """`IV ‖ ciphertext ‖ tag`."""
        if len(iv) != IV_LENGTH:
            raise ValueError(f"a GCM nonce has {IV_LENGTH} bytes, not {len(iv)}")
        return iv + self._cipher.encrypt(iv, plaintext, aad)

    def open(self, blob: bytes | memoryview, aad: bytes | None = None) -> bytes:
        """The plaintext of `IV ‖ ciphertext ‖ tag`; InternalTokenError when short or not authentic."""
        if len(blob) < OVERHEAD:
            raise InternalTokenError("Unable to Decrypt")
        view = memoryview(blob)
        try:
            return self._cipher.decrypt(view[:IV_LENGTH], view[IV_LENGTH:], aad)
        except InvalidTag:
            raise InternalTokenError("Unable to Decrypt") from None
