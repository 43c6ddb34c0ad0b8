"""Attestation tokens: what Core hands to an attested operator (core chapter, 6.1).

    plaintext   <operator key>,<expiry, epoch seconds>,<nonce, signed decimal of 64 bits>
    text        base64(ciphertext ‖ tag) "-" base64(IV) "-g"

AES-256-GCM without associated data; the key comes from a passphrase and a salt by PBKDF2.
"""

from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Final

from uid2.protocol.crypto.aead import IV_LENGTH, GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import InternalTokenError, Uid2Error
from uid2.protocol.ids import EpochSeconds

ITERATIONS: Final = 65_536
KEY_LENGTH: Final = 32
SCHEME: Final = "g"
LONGEST_TEXT: Final = 4096


class AttestationTokenError(Uid2Error):
    """A token that is malformed, not authentic, of another operator, or expired."""

    code = "attestation_token"


def derive_token_key(passphrase: str, salt: str) -> GcmKey:
    """The key of `att_token_enc_key` and `att_token_enc_salt`. Slow on purpose: derive once and keep it."""
    return GcmKey(pbkdf2_hmac("sha256", passphrase.encode(), salt.encode(), ITERATIONS, KEY_LENGTH))


def seal_attestation_token(operator_key: str, expires: EpochSeconds, nonce: int, key: GcmKey, iv: bytes) -> str:
    """The text of a token; `iv` has 12 bytes, `nonce` is any signed number of 64 bits."""
    sealed = key.seal(iv, f"{operator_key},{expires},{nonce}".encode())
    return f"{encode_base64(sealed[IV_LENGTH:])}-{encode_base64(iv)}-{SCHEME}"


def open_attestation_token(text: str, key: GcmKey, operator_key: str, now: EpochSeconds) -> EpochSeconds:
    """The expiry of a token that was made for `operator_key` and has not expired; AttestationTokenError else."""
    parts = text.split("-")
    if len(text) > LONGEST_TEXT or len(parts) != 3 or parts[2] != SCHEME:
        raise _refused("it has another form")
    try:
        iv = decode_base64(parts[1])
        blob = iv + decode_base64(parts[0])
    except ValueError:
        raise _refused("it is not base64") from None
    if len(iv) != IV_LENGTH:
        raise _refused("its nonce has another length")
    try:
        fields = key.open(blob).decode().split(",")
        holder, expires = fields[0], int(fields[1])
    except InternalTokenError:
        raise _refused("it is not authentic") from None
    except (ValueError, IndexError):
        raise _refused("its contents have another form") from None
    if len(fields) < 3:
        raise _refused("its contents have another form")
    if not compare_digest(holder.encode(), operator_key.encode("utf-8", "surrogatepass")):
        raise _refused("it was issued to another operator key")
    if expires <= now:
        raise _refused("it has expired")
    return EpochSeconds(expires)


def _refused(why: str) -> AttestationTokenError:
    return AttestationTokenError(f"the attestation token is refused: {why}", next_step="attest again")
