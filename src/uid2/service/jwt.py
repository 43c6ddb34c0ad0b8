"""Verification of Core's JWTs, by Core itself and by the opt-out service (core chapter, 3.2 and 6.3)."""

import re
from collections.abc import Sequence
from typing import Any, Final, final

import jwt

from uid2.protocol.crypto.rsa import RSAPublicKey, load_rsa_public_key
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.jwt_claims import AttestationClaims, JwtError, parse_claims

ALGORITHMS: Final = ["RS256"]
LONGEST_TOKEN: Final = 16 << 10
# Times are compared with the caller's clock below, the rest of the claims in `parse_claims`.
_OPTIONS: Final[Any] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "require": ["exp", "iss", "aud"],
}
_PEM_LINE: Final = re.compile(r"-----[A-Z ]+-----")


def parse_public_keys(text: str, key_name: str = "aws_kms_jwt_signing_public_keys") -> tuple[RSAPublicKey, ...]:
    """The keys of a comma-separated list of base64 SubjectPublicKeyInfo, PEM lines tolerated; ConfigurationError."""
    keys = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        plain = "".join(_PEM_LINE.sub("", part.replace("\\n", "\n")).split())
        try:
            keys.append(load_rsa_public_key(decode_base64(plain)))
        except ValueError as error:
            raise ConfigurationError(
                f"configuration key {key_name}: key {number} is unusable: {error}",
                next_step="give base64 of SubjectPublicKeyInfo of RSA keys, separated by commas",
            ) from None
    return tuple(keys)


@final
class JwtVerifier:
    """Accepts a token that any of the keys signed."""

    def __init__(self, public_keys: Sequence[RSAPublicKey]) -> None:
        self._keys = tuple(public_keys)

    def verify(self, token: str, audience: str, issuer: str, now: EpochSeconds) -> AttestationClaims:
        """The claims of a token for exactly this audience and issuer; JwtError says why it is refused."""
        if not self._keys:
            raise JwtError("no public key for JWTs is configured", next_step="set aws_kms_jwt_signing_public_keys")
        if len(token) > LONGEST_TOKEN:
            raise JwtError("the JWT is too long")
        claims = self._signed_claims(token, audience, issuer)
        parsed = parse_claims(claims)
        if parsed.exp <= now:
            raise JwtError("the JWT has expired", next_step="attest again")
        return parsed

    def _signed_claims(self, token: str, audience: str, issuer: str) -> dict[str, Any]:
        for key in self._keys:
            try:
                return jwt.decode(token, key, ALGORITHMS, audience=audience, issuer=issuer, options=_OPTIONS)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
                # The library's texts name claims and headers, some with their values: only the kind is passed on.
                raise JwtError(f"the JWT is refused: {type(error).__name__}") from None
        raise JwtError("the JWT is refused: no configured key has signed it")
