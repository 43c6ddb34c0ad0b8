import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.protocol.crypto.rsa import load_rsa_private_key, public_der, sign
from uid2.protocol.encoding import encode_base64, encode_base64url
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds, SiteId
from uid2.protocol.jwt_claims import JwtError
from uid2.service.jwt import JwtVerifier, parse_public_keys

STORES = Path(__file__).parents[2] / "vectors/stores"
VECTOR: dict[str, Any] = json.loads((STORES / "attestation/vectors.json").read_text())["attestation_jwt_core"]
PRIVATE = load_rsa_private_key((STORES / "jwt/jwt_signing_private_key.pem").read_bytes())
KEY_TEXT = (STORES / "jwt/jwt_signing_public_key.txt").read_text().strip()
OTHER = rsa.generate_private_key(65537, 2048)
NOW = EpochSeconds(1_750_000_000)
CORE = "http://core:8088"


def signed(
    claims: dict[str, Any], key: rsa.RSAPrivateKey = PRIVATE, header: str = '{"typ":"JWT","alg":"RS256"}'
) -> str:
    text = f"{encode_base64url(header.encode())}.{encode_base64url(json.dumps(claims).encode())}"
    return f"{text}.{encode_base64url(sign(key, text.encode()))}"


def test_the_token_of_the_vectors_with_several_keys() -> None:
    verifier = JwtVerifier((*parse_public_keys(encode_base64(public_der(OTHER))), *parse_public_keys(KEY_TEXT)))
    claims = verifier.verify(VECTOR["jwt"], CORE, CORE, NOW)
    assert (claims.site_id, claims.enclave_id, claims.exp) == (SiteId(999), "Trusted", 4_102_444_800)
    with pytest.raises(JwtError, match="expired"):
        verifier.verify(VECTOR["jwt"], CORE, CORE, claims.exp)


@pytest.mark.parametrize(("audience", "issuer"), [("http://optout:8081", CORE), (CORE, "http://optout:8081")])
def test_audience_and_issuer_are_exact(audience: str, issuer: str) -> None:
    with pytest.raises(JwtError, match="refused"):
        JwtVerifier(parse_public_keys(KEY_TEXT)).verify(VECTOR["jwt"], audience, issuer, NOW)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        VECTOR["jwt"][:-3],
        VECTOR["jwt"] + "x" * 20_000,
        signed(VECTOR["claims"], OTHER),
        signed(VECTOR["claims"] | {"aud": [CORE, "http://other"]}),
        signed({name: value for name, value in VECTOR["claims"].items() if name != "exp"}),
        signed(VECTOR["claims"], header='{"typ":"JWT","alg":"none"}'),
        signed(VECTOR["claims"], header='{"typ":"JWT","alg":"HS256"}'),
        signed(VECTOR["claims"], header='{"typ":"JWT","alg":"RS512"}'),
    ],
)
def test_tokens_that_are_refused(token: str) -> None:
    with pytest.raises(JwtError):
        JwtVerifier(parse_public_keys(KEY_TEXT)).verify(token, CORE, CORE, NOW)


def test_every_flipped_byte_is_refused() -> None:
    verifier = JwtVerifier(parse_public_keys(KEY_TEXT))
    token = VECTOR["jwt"]
    for at in range(0, len(token), 7):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(JwtError):
            verifier.verify(changed, CORE, CORE, NOW)


def test_without_keys_everything_is_refused() -> None:
    with pytest.raises(JwtError, match="no public key"):
        JwtVerifier(()).verify(VECTOR["jwt"], CORE, CORE, NOW)


def test_public_keys_may_have_pem_lines() -> None:
    pem = f"-----BEGIN PUBLIC KEY-----\n{KEY_TEXT[:64]}\n{KEY_TEXT[64:]}\n-----END PUBLIC KEY-----\n"
    assert len(parse_public_keys(f"{pem}, {KEY_TEXT},")) == 2
    assert parse_public_keys("") == ()
    with pytest.raises(ConfigurationError, match="key 2 is unusable"):
        parse_public_keys(f"{KEY_TEXT},AAAA")
