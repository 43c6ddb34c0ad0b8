import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from core_stage import (
    GCP,
    NITRO,
    NOW,
    OPTOUT,
    PRIVATE,
    PUBLIC,
    PUBLIC_KEY,
    Core,
    ScriptedVerifier,
    attested,
    members,
)
from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.core.issuing import operator_version
from uid2.core.verifiers.interface import EXPLANATIONS, EvidenceRefusedError, EvidenceUndecidedError
from uid2.protocol.attest_messages import parse_challenge
from uid2.protocol.attestation_token import open_attestation_token
from uid2.protocol.crypto.rsa import public_der
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochSeconds
from uid2.service.jwt import JwtVerifier

MRENCLAVE = "4f" * 32
BAD_PAYLOAD = EXPLANATIONS["BAD_PAYLOAD"]


def claims(core: Core, jwt: str | None, audience: str) -> Any:
    assert jwt is not None
    assert core.context.signer is not None
    verifier: JwtVerifier = core.context.jwt_verifier
    return verifier.verify(jwt, audience, "http://core:8088", core.context.now())


def test_a_trusted_key_receives_token_and_jwts(core: Core) -> None:
    token, answer = attested(core.attest(PUBLIC, headers={"X-UID2-AppVersion": "uid2-operator=5.70.250;uid2-shared=1"}))
    seconds = NOW // 1000
    expires = open_attestation_token(token, core.context.token_key, PUBLIC, EpochSeconds(seconds))
    assert 300 <= expires - seconds - 1200 <= 599
    assert answer.expires_at == expires * 1000
    assert answer.optout_url == "http://optout:8081"
    for jwt, audience in ((answer.jwt_core, "http://core:8088"), (answer.jwt_optout, "http://optout:8081")):
        found = claims(core, jwt, audience)
        assert (found.exp, found.iat, found.enclave_id, found.enclave_type) == (expires, seconds, "Trusted", "trusted")
        assert found.operator_version == "Special|uid2-operator|5.70.250"


def test_without_signer_and_urls_the_answer_has_nulls(start: Callable[..., Core]) -> None:
    core = start(core_public_url=None, optout_url=None, jwt_signing_key_file=None)
    body = json.loads(core.attest(OPTOUT).body)["body"]
    assert body.keys() == {"attestation_token", "expiresAt", "optout_url"}
    assert body["optout_url"] is None


def test_what_the_verifier_sees(core: Core, verifier: ScriptedVerifier) -> None:
    _, answer = attested(core.attest(GCP, evidence=b"a quote"))
    seen = verifier.seen[0]
    assert (seen.payload, seen.public_key, seen.report_data_version) == (b"a quote", PUBLIC_KEY, 1)
    assert (seen.nonce, seen.endpoint) == (None, "http://core:8088")
    assert claims(core, answer.jwt_core, "http://core:8088").enclave_id == MRENCLAVE


def test_the_endpoint_without_a_public_url_is_what_the_caller_wrote(
    start: Callable[..., Core], verifier: ScriptedVerifier
) -> None:
    attested(start(core_public_url=None, jwt_signing_key_file=None).attest(GCP))
    assert verifier.seen[0].endpoint == "http://called:8088"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "no attestation_request attached"),
        (b"{}", "no attestation_request attached"),
        (b'{"attestation_request":""}', "no attestation_request attached"),
        (b"{", "request body is not a valid json"),
        (b"\xff\xfe", "request body is not a valid json"),
        (b"[" * 100_000, "request body is not a valid json"),
        (b'{"attestation_request":"?"}', "attestation_request is not valid base64"),
        (b'{"attestation_request":"AA==","public_key":"?"}', "public_key is not valid base64"),
        (b'{"attestation_request":"AA==","nonce":"AA=="}', "nonce must be base64 of 32 bytes"),
    ],
)
def test_requests_that_are_not_evaluated(core: Core, body: bytes, status: str) -> None:
    response = core.call("POST", "/attest", PUBLIC, body=body)
    assert (response.status, members(response)) == (400, {"status": status})


def test_a_protocol_that_is_not_served(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    response = core.attest(NITRO)
    assert response.status == 403
    assert members(response) == {"status": "protocol not found", "reason_code": "unknown_protocol"}
    assert "protocol 'aws-nitro' is not served" in caplog.text


@pytest.mark.parametrize(
    "key", [b"", b"no key", PUBLIC_KEY[:-1], public_der(rsa.generate_private_key(65537, 1024))], ids=range(4)
)
def test_unusable_public_keys(core: Core, key: bytes) -> None:
    for operator in (PUBLIC, GCP):
        response = core.attest(operator, public_key=key)
        assert (response.status, members(response)["status"]) == (400, "attestation failure")
        assert "public_key is unusable" in members(response)["message"]


def test_the_operator_type_must_be_that_of_the_key(core: Core) -> None:
    for key, fitting, other in ((PUBLIC, "Public", "private"), (PRIVATE, "PRIVATE", "public"), (PUBLIC, None, "")):
        assert core.attest(key, operator_type=fitting).status == 200
        response = core.attest(key, operator_type=other)
        assert (response.status, members(response)["status"]) == (403, "attestation failure; invalid operator type")


@pytest.mark.parametrize("code", ["BAD_FORMAT", "BAD_PAYLOAD", "BAD_CERTIFICATE", "FORBIDDEN_ENCLAVE"])
def test_refused_evidence(core: Core, verifier: ScriptedVerifier, code: str, caplog: pytest.LogCaptureFixture) -> None:
    verifier.error = EvidenceRefusedError("why it is refused", code, "fine_reason", {"mr_enclave": MRENCLAVE})
    response = core.attest(GCP)
    text = EXPLANATIONS[code]
    assert response.status == 403
    assert members(response) == {"status": text, "message": text, "reason_code": "fine_reason"}
    line = next(record for record in caplog.records if "attestation refused" in record.message)
    assert "why it is refused" in line.message
    assert f"mr_enclave={MRENCLAVE}" in line.message
    assert line.levelno == logging.WARNING


def test_missing_collateral_is_not_the_operators_fault(core: Core, verifier: ScriptedVerifier) -> None:
    verifier.error = EvidenceUndecidedError("no collateral", "collateral_missing", next_step="look")
    response = core.attest(GCP)
    assert (response.status, members(response)["reason_code"]) == (503, "collateral_missing")
    assert any(name == "retry-after" for name, _ in response.headers)


def test_a_verifier_that_fails(core: Core, verifier: ScriptedVerifier) -> None:
    verifier.error = RuntimeError("unforeseen")
    response = core.attest(GCP)
    assert (response.status, members(response)) == (500, {"status": "attestation failure"})


def test_before_the_enclaves_are_loaded_nobody_is_refused_for_good(start: Callable[..., Core]) -> None:
    core = start(load=False)
    (core.bucket / "enclaves/enclaves.json").write_text("broken")
    core.load()
    response = core.attest(GCP)
    assert (response.status, members(response)["reason_code"]) == (503, "not_ready")
    assert core.attest(PUBLIC).status == 200


@pytest.mark.parametrize("environment", ["integ", "prod"])
def test_production_attests_no_trusted_operator(start: Callable[..., Core], environment: str) -> None:
    core = start(environment=environment, core_public_url="https://core", optout_url="https://optout")
    response = core.attest(PUBLIC)
    assert response.status == 403
    assert members(response) == {
        "status": "The given protocol is not valid",
        "message": "The given protocol is not valid",
        "reason_code": "trusted_refused",
    }
    assert core.attest(OPTOUT).status == 200


def test_a_record_without_a_site_gets_no_jwt(start: Callable[..., Core]) -> None:
    def without_site(records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["protocol"] == "azure-sgx":
                record["site_id"] = None

    _, answer = attested(start(operators=without_site).attest(GCP))
    assert (answer.jwt_core, answer.jwt_optout) == (None, None)
    response = start(operators=without_site, enforceJwt=True).attest(GCP)
    wanted = {"status": "attestation failure", "message": "There was an internal processing error"}
    assert (response.status, members(response)) == (500, wanted)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "unknown client version"),
        ("", "Special|null client key"),
        ("no version", "Special|null client key"),
        ("a=1", "Special|a|1"),
        ("a=1=2;b=3", "Special|a|1=2"),
    ],
)
def test_the_version_in_the_jwt(core: Core, header: str | None, text: str) -> None:
    assert core.context.own.operators is not None
    operator = core.context.own.operators.find(PUBLIC)
    assert operator is not None
    assert operator_version(operator, header) == text


# Challenges.


def challenge(core: Core, key: str) -> bytes:
    response = core.call("POST", "/attest/challenge", key)
    assert response.status == 200
    answer = parse_challenge(response.body)
    assert (answer.versions, answer.expires_in) == ((1, 2), 60)
    return answer.nonce


def with_nonce(core: Core, key: str, nonce: bytes) -> Any:
    response = core.attest(key, report_data_version=2, nonce=nonce)
    return response.status, json.loads(response.body).get("reason_code"), json.loads(response.body)["status"]


def test_a_nonce_is_spent_once(core: Core, verifier: ScriptedVerifier) -> None:
    nonce = challenge(core, GCP)
    assert with_nonce(core, GCP, nonce)[0] == 200
    assert (verifier.seen[0].nonce, verifier.seen[0].report_data_version) == (nonce, 2)
    assert with_nonce(core, GCP, nonce) == (403, "bad_nonce", BAD_PAYLOAD)
    assert len(verifier.seen) == 1


def test_a_refused_attestation_spends_its_nonce(core: Core, verifier: ScriptedVerifier) -> None:
    nonce = challenge(core, GCP)
    verifier.error = EvidenceRefusedError("no", "BAD_PAYLOAD", "bad_signature")
    assert with_nonce(core, GCP, nonce)[1] == "bad_signature"
    verifier.error = None
    assert with_nonce(core, GCP, nonce)[1] == "bad_nonce"
    unusable = challenge(core, GCP)
    assert core.attest(GCP, public_key=b"", report_data_version=2, nonce=unusable).status == 400
    assert with_nonce(core, GCP, unusable)[1] == "bad_nonce"


def test_nonces_of_others_unknown_and_late_ones(core: Core) -> None:
    nonce = challenge(core, PUBLIC)
    assert with_nonce(core, GCP, nonce)[1] == "bad_nonce"
    assert with_nonce(core, GCP, bytes(32))[1] == "bad_nonce"
    late = challenge(core, GCP)
    core.clock.advance(60_000)
    assert with_nonce(core, GCP, late)[1] == "bad_nonce"
    in_time = challenge(core, GCP)
    core.clock.advance(59_999)
    assert with_nonce(core, GCP, in_time)[0] == 200


# What is written down.


def test_the_verdict_line_and_the_audit_line(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    token, answer = attested(core.attest(GCP, components={"uid2-shared": "11.7.4"}))
    verdict = next(record for record in caplog.records if record.message.startswith("attestation accepted"))
    assert f"mr_enclave={MRENCLAVE} root=TEST" in verdict.message
    assert vars(verdict)["verdict"] == "accepted"
    audit = next(record for record in caplog.records if record.message.startswith("audit"))
    fields = vars(audit)
    assert (fields["status"], fields["participant_id"], fields["enclave_id"]) == (200, 124, MRENCLAVE)
    assert fields["components.uid2-shared"] == "11.7.4"
    written = "".join(str(vars(record)) for record in caplog.records)
    for secret in (GCP, token, answer.jwt_core, answer.jwt_optout, encode_base64(answer.attestation_token)):
        assert secret
        assert secret not in written


def test_verdicts_are_counted(core: Core, verifier: ScriptedVerifier) -> None:
    core.attest(GCP)
    core.attest(NITRO)
    verifier.error = EvidenceRefusedError("no", "BAD_PAYLOAD", "bad_signature")
    core.attest(GCP)
    text = core.metrics.render().decode()
    for labels in (
        'protocol="azure-sgx",reason_code="none",verdict="accepted"',
        'protocol="azure-sgx",reason_code="bad_signature",verdict="refused"',
        'protocol="other",reason_code="unknown_protocol",verdict="refused"',
    ):
        wanted = set(labels.split(","))
        lines = [line for line in text.splitlines() if line.startswith("uid2_core_attestations_total{")]
        assert any(wanted <= set(line.partition("{")[2].partition("}")[0].split(",")) for line in lines), labels
