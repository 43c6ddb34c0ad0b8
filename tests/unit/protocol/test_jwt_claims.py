import json
from pathlib import Path
from typing import Any

import pytest

from uid2.protocol.crypto.rsa import load_rsa_private_key, sign
from uid2.protocol.encoding import encode_base64url
from uid2.protocol.ids import EpochSeconds, Role
from uid2.protocol.jwt_claims import JwtError, claims_of, encode_claims, parse_claims, signing_input
from uid2.protocol.operators import parse_operators

STORES = Path(__file__).parents[2] / "vectors/stores"
VECTORS: dict[str, Any] = json.loads((STORES / "attestation/vectors.json").read_text())
OPERATOR = parse_operators((STORES / "operators/operators.json").read_bytes())[0]
KEY = load_rsa_private_key((STORES / "jwt/jwt_signing_private_key.pem").read_bytes())
CLAIMS: dict[str, Any] = VECTORS["attestation_jwt_core"]["claims"]


@pytest.mark.parametrize("name", ["attestation_jwt_core", "attestation_jwt_optout"])
def test_the_tokens_of_the_vectors(name: str) -> None:
    wanted = VECTORS[name]["claims"]
    claims = claims_of(
        OPERATOR,
        issuer=wanted["iss"],
        audience=wanted["aud"],
        expires=EpochSeconds(wanted["exp"]),
        now=EpochSeconds(wanted["iat"]),
        enclave_id="Trusted",
        operator_version=wanted["operatorVersion"],
        jti=wanted["jti"],
    )
    assert json.loads(encode_claims(claims)) == wanted
    text = signing_input(claims)
    assert f"{text.decode()}.{encode_base64url(sign(KEY, text))}" == VECTORS[name]["jwt"]
    assert parse_claims(encode_claims(claims)) == claims
    assert claims.roles == {Role.OPERATOR, Role.OPTOUT}


@pytest.mark.parametrize(
    "changed",
    [{name: None} for name in ("exp", "iat", "iss", "aud", "sub", "roles", "siteId", "enclaveId", "enclaveType", "jti")]
    + [{"operatorVersion": 7}, {"roles": "OPERATOR,KING"}, {"roles": ""}, {"siteId": "nine"}, {"exp": True}],
)
def test_missing_and_wrong_claims_are_named(changed: dict[str, Any]) -> None:
    with pytest.raises(JwtError, match=next(iter(changed))):
        parse_claims({**CLAIMS, **changed})


def test_an_operator_without_a_site_gets_no_claims() -> None:
    record = json.loads((STORES / "operators/operators.json").read_bytes())[0] | {"site_id": None}
    operator = parse_operators(json.dumps([record]).encode())[0]
    with pytest.raises(JwtError, match="site_id"):
        claims_of(
            operator,
            issuer="",
            audience="",
            expires=EpochSeconds(2),
            now=EpochSeconds(1),
            enclave_id="",
            operator_version="",
            jti="",
        )
