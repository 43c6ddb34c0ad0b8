import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core_stage import (
    CORE_URL,
    DISABLED,
    GCP,
    NITRO,
    NOW,
    OPTOUT,
    PRIVATE,
    PUBLIC,
    PUBLIC_124,
    STORES,
    Core,
    attested,
    members,
)

from uid2.protocol.attestation_token import seal_attestation_token
from uid2.protocol.crypto.rsa import load_rsa_private_key, sign
from uid2.protocol.encoding import encode_base64url
from uid2.protocol.ids import EpochSeconds

KEY = load_rsa_private_key((STORES / "jwt/jwt_signing_private_key.pem").read_bytes())
GATED = (
    "/sites/refresh",
    "/clients/refresh",
    "/client_side_keypairs/refresh",
    "/services/refresh",
    "/service_links/refresh",
    "/key/refresh",
    "/key/acl/refresh",
    "/key/keyset/refresh",
    "/key/keyset-keys/refresh",
    "/salt/refresh",
    "/cloud_encryption_keys/retrieve",
    "/operator/config",
)
FOR_OPTOUT = ("/operators/refresh", "/partners/refresh")

UNRECOGNIZED = {"reason": "unrecognized_key", "message": "Operator key not recognized."}
KEY_DISABLED = {"reason": "key_disabled", "message": "Operator key is recognized but has been disabled."}
INSUFFICIENT = {
    "reason": "insufficient_role",
    "message": "Operator key is recognized but is not authorized for this operation.",
}


def refused(core: Core, path: str, key: str | None, **headers: str) -> dict[str, Any]:
    method = "POST" if path.startswith("/attest") else "GET"
    response = core.call(method, path, key, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert response.status == 401
    answer = members(response)
    assert answer.pop("status") == "unauthorized"
    return answer


@pytest.mark.parametrize("path", [*GATED, *FOR_OPTOUT, "/attest", "/attest/challenge"])
def test_keys_that_are_not_admitted(core: Core, path: str) -> None:
    assert refused(core, path, None) == UNRECOGNIZED
    assert refused(core, path, "UID2-O-L-999-unknown") == UNRECOGNIZED
    assert refused(core, path, PUBLIC + "x") == UNRECOGNIZED
    assert refused(core, path, DISABLED) == KEY_DISABLED


@pytest.mark.parametrize("path", GATED)
def test_the_opt_out_service_may_not_read_what_operators_read(core: Core, path: str) -> None:
    assert refused(core, path, OPTOUT) == INSUFFICIENT


@pytest.mark.parametrize("path", FOR_OPTOUT)
def test_operators_may_not_read_what_the_opt_out_service_reads(core: Core, path: str) -> None:
    assert refused(core, path, PUBLIC) == INSUFFICIENT
    assert core.get(path, OPTOUT).status == 200


@pytest.mark.parametrize(
    "header", [f"Bearer {PUBLIC}", f"bearer {PUBLIC}", f"  BEARER {PUBLIC}\t", f"\x01bEaReR {PUBLIC}\x1f"]
)
def test_forms_of_the_header(core: Core, header: str) -> None:
    assert core.call("GET", "/clients/refresh", headers={"authorization": header}).status == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", PUBLIC, f"Basic {PUBLIC}", f"Bearer  {PUBLIC}"])
def test_headers_without_a_key(core: Core, header: str) -> None:
    assert core.call("GET", "/clients/refresh", headers={"authorization": header}).status == 401


@pytest.mark.parametrize("path", [path for path in GATED if "site" not in path and "service" not in path])
def test_the_gate_asks_for_the_token_of_the_same_key(core: Core, path: str) -> None:
    token, _ = attested(core.attest(GCP))
    if "keypairs" not in path:
        assert core.get(path, GCP, attestation_token=token).status == 200
    assert refused(core, path, GCP) == INSUFFICIENT
    assert refused(core, path, NITRO, attestation_token=token) == INSUFFICIENT
    assert refused(core, path, GCP, attestation_token=token[:-1]) == INSUFFICIENT
    assert refused(core, path, GCP, attestation_token="") == INSUFFICIENT


def test_a_token_ends(core: Core) -> None:
    token, answer = attested(core.attest(GCP))
    core.clock.set(answer.expires_at - 1000)
    assert core.get("/clients/refresh", GCP, attestation_token=token).status == 200
    core.clock.set(answer.expires_at)
    assert refused(core, "/clients/refresh", GCP, attestation_token=token) == INSUFFICIENT


def test_a_token_sealed_with_another_secret_is_refused(core: Core, start: Callable[..., Core]) -> None:
    other = start(att_token_enc_key="another")
    token = seal_attestation_token(GCP, EpochSeconds(NOW), 1, other.context.token_key, bytes(12))
    assert refused(core, "/clients/refresh", GCP, attestation_token=token) == INSUFFICIENT


def test_trusted_keys_pass_without_a_token(core: Core) -> None:
    for key in (PUBLIC, PRIVATE, PUBLIC_124):
        assert core.get("/clients/refresh", key).status == 200


@pytest.mark.parametrize("environment", ["integ", "prod"])
def test_production_lets_no_trusted_operator_through_the_gate(start: Callable[..., Core], environment: str) -> None:
    core = start(environment=environment, core_public_url="https://core", optout_url="https://optout")
    assert refused(core, "/clients/refresh", PUBLIC) == INSUFFICIENT
    assert core.get("/operators/refresh", OPTOUT).status == 200
    token, _ = attested(core.attest(GCP))
    assert core.get("/clients/refresh", GCP, attestation_token=token).status == 200


def test_before_the_keys_are_loaded_callers_are_told_to_come_again(start: Callable[..., Core]) -> None:
    core = start(load=False)
    response = core.get("/clients/refresh", PUBLIC)
    assert (response.status, members(response)["reason_code"]) == (503, "not_ready")
    assert ("retry-after", "5") in response.headers


@pytest.mark.parametrize("path", ["/clients/refresh", "/operators/refresh", "/attest"])
def test_the_trace_id_comes_back(core: Core, path: str) -> None:
    method = "POST" if path == "/attest" else "GET"
    response = core.call(method, path, PUBLIC, headers={"X-Amzn-Trace-Id": "Root=1-2"})
    assert ("X-Amzn-Trace-Id", "Root=1-2") in response.headers
    assert not any(name == "X-Amzn-Trace-Id" for name, _ in core.call(method, path, PUBLIC).headers)


# The JWT beside the token.


def test_a_jwt_is_enforced_only_when_configured(start: Callable[..., Core]) -> None:
    core = start(enforceJwt=True)
    _, answer = attested(core.attest(PUBLIC))
    assert answer.jwt_core is not None
    assert answer.jwt_optout is not None
    assert core.get("/clients/refresh", PUBLIC, attestation_jwt=answer.jwt_core).status == 200
    for jwt in (answer.jwt_optout, answer.jwt_core[:-2], "nonsense", " ", ""):
        assert refused(core, "/clients/refresh", PUBLIC, attestation_jwt=jwt) == INSUFFICIENT
    assert refused(core, "/clients/refresh", PUBLIC) == INSUFFICIENT
    assert refused(core, "/clients/refresh", PUBLIC_124, attestation_jwt=answer.jwt_core) == INSUFFICIENT


def test_an_unusable_jwt_is_only_logged_when_not_enforced(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    assert core.get("/clients/refresh", PUBLIC, attestation_jwt="nonsense").status == 200
    assert "unusable JWT" in caplog.text
    assert "nonsense" not in caplog.text


def test_a_jwt_without_a_public_url_is_cores_own_failure(start: Callable[..., Core]) -> None:
    core = start(core_public_url=None, jwt_signing_key_file=None)
    response = core.get("/clients/refresh", PUBLIC, attestation_jwt="a.b.c")
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert core.get("/clients/refresh", PUBLIC).status == 200


@pytest.mark.parametrize(
    "changed",
    [{"exp": NOW // 1000}, {"aud": "http://other"}, {"iss": "http://other"}, {"roles": "KING"}, {"jti": None}],
)
def test_claims_that_do_not_fit(start: Callable[..., Core], changed: dict[str, Any]) -> None:
    core = start(enforceJwt=True)
    claims = json.loads((Path(STORES) / "attestation/vectors.json").read_text())["attestation_jwt_core"]["claims"]
    header = encode_base64url(b'{"typ":"JWT","alg":"RS256"}')

    def jwt(claims: dict[str, Any]) -> str:
        text = f"{header}.{encode_base64url(json.dumps(claims).encode())}"
        return f"{text}.{encode_base64url(sign(KEY, text.encode()))}"

    assert claims["iss"] == CORE_URL
    assert core.get("/clients/refresh", PUBLIC, attestation_jwt=jwt(claims)).status == 200
    assert refused(core, "/clients/refresh", PUBLIC, attestation_jwt=jwt(claims | changed)) == INSUFFICIENT
