"""The verifier with the real quote, its collateral behind a PCS of this test."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent

import httpx
import pytest

from uid2.attestation.collateral import Collateral
from uid2.attestation.collateral_pcs import PcsCollateral
from uid2.attestation.policy import TcbPolicy
from uid2.attestation.roots import INTEL_ROOT
from uid2.core.verifiers.azure_sgx import AzureSgxVerifier
from uid2.core.verifiers.fetching import HttpFetch
from uid2.core.verifiers.interface import Evidence, EvidenceRefusedError, EvidenceUndecidedError
from uid2.protocol.ids import EpochSeconds

DCAP = Path(__file__).parents[3] / "vectors" / "dcap"
QUOTE = (DCAP / "sgx_quote.bin").read_bytes()
BUNDLE: dict[str, Any] = json.loads((DCAP / "sgx_quote.collateral.json").read_bytes())
NOW = EpochSeconds(1_750_416_971)
BASE = "https://pcs.example.com/sgx/certification/v4"


def pcs(missing: str = "") -> httpx.MockTransport:
    def signed(member: str, text: str, signature: str) -> bytes:
        return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()

    documents = {
        "/tcb": (
            {"TCB-Info-Issuer-Chain": BUNDLE["tcb_info_issuer_chain"]},
            signed("tcbInfo", BUNDLE["tcb_info"], BUNDLE["tcb_info_signature"]),
        ),
        "/qe/identity": (
            {"SGX-Enclave-Identity-Issuer-Chain": BUNDLE["qe_identity_issuer_chain"]},
            signed("enclaveIdentity", BUNDLE["qe_identity"], BUNDLE["qe_identity_signature"]),
        ),
        "/pckcrl": (
            {"SGX-PCK-CRL-Issuer-Chain": BUNDLE["pck_crl_issuer_chain"]},
            bytes.fromhex(BUNDLE["pck_crl"]),
        ),
        "/rootcacrl": ({}, BUNDLE["root_ca_crl"].encode()),
    }

    def respond(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/sgx/certification/v4")
        if path == missing or path not in documents:
            return httpx.Response(404)
        headers, body = documents[path]
        return httpx.Response(200, headers={name: percent(chain) for name, chain in headers.items()}, content=body)

    return httpx.MockTransport(respond)


def verifier(missing: str = "") -> AzureSgxVerifier:
    source = PcsCollateral(BASE, HttpFetch(https_only=True, transport=pcs(missing)))
    return AzureSgxVerifier(source, INTEL_ROOT, TcbPolicy(), frozenset)


def test_collateral_comes_over_http_and_the_quote_is_genuine() -> None:
    with pytest.raises(EvidenceRefusedError) as caught:
        asyncio.run(verifier().verify(Evidence(QUOTE, b"", 1, None, "https://core"), NOW))
    # Everything before the question whose enclave it is has passed.
    assert caught.value.reason_code == "wrong_product"
    assert caught.value.facts["fmspc"] == "00A067110000"


@pytest.mark.parametrize("missing", ["/tcb", "/qe/identity", "/pckcrl"])
def test_a_service_that_lacks_a_document(missing: str) -> None:
    with pytest.raises(EvidenceUndecidedError) as caught:
        asyncio.run(verifier(missing).verify(Evidence(QUOTE, b"", 1, None, "https://core"), NOW))
    assert caught.value.reason_code == "collateral_missing"


def test_the_set_is_the_one_of_the_bundle() -> None:
    source = PcsCollateral(BASE, HttpFetch(transport=pcs()))
    found = asyncio.run(source.collateral_for("00A067110000", "processor", NOW))
    wanted = Collateral.from_bundle(json.dumps(BUNDLE))
    assert (found.tcb_info, found.pck_crl, found.valid_until) == (wanted.tcb_info, wanted.pck_crl, wanted.valid_until)
