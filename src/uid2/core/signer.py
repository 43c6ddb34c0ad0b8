"""Who signs the JWTs (core chapter, 6.3). A file with the key now; a cloud's key service has the same shape."""

from pathlib import Path
from typing import Protocol, final

from uid2.protocol.crypto.rsa import RSAPublicKey, load_rsa_private_key, sign
from uid2.protocol.encoding import encode_base64url
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.jwt_claims import AttestationClaims, signing_input


class Signer(Protocol):
    async def sign(self, message: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256; DependencyError when the signature cannot be had."""
        ...


@final
class KeyFileSigner:
    """A private key in PEM or DER on this machine."""

    def __init__(self, file: Path) -> None:
        try:
            self._key = load_rsa_private_key(file.read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"jwt_signing_key_file {file} cannot be read: {error.strerror}",
                next_step="check the path and its rights",
            ) from None
        except ValueError as error:
            raise ConfigurationError(
                f"jwt_signing_key_file {file} is unusable: {error}",
                next_step="make one with openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            ) from None

    @property
    def public_key(self) -> RSAPublicKey:
        return self._key.public_key()

    async def sign(self, message: bytes) -> bytes:
        return sign(self._key, message)


async def signed_jwt(claims: AttestationClaims, signer: Signer) -> str:
    message = signing_input(claims)
    return f"{message.decode()}.{encode_base64url(await signer.sign(message))}"
