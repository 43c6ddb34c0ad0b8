"""Core's verifier on the real quote of the vectors: genuine, but of another product than this one."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from uid2.attestation.binding import report_data_v1, report_data_v2
from uid2.attestation.collateral import Collateral
from uid2.attestation.policy import TcbPolicy
from uid2.attestation.reasons import AttestationReason, CollateralUnavailable
from uid2.attestation.roots import INTEL_ROOT
from uid2.core.verifiers.azure_sgx import AzureSgxVerifier
from uid2.core.verifiers.interface import Evidence, EvidenceRefusedError, EvidenceUndecidedError
from uid2.protocol.errors import DependencyError
from uid2.protocol.ids import EpochSeconds

DCAP = Path(__file__).parents[3] / "vectors" / "dcap"
QUOTE = (DCAP / "sgx_quote.bin").read_bytes()
COLLATERAL = Collateral.from_bundle((DCAP / "sgx_quote.collateral.json").read_bytes())
NOW = EpochSeconds(1_750_416_971)
MRENCLAVE = "33d8"


class Shelf:
    """Hands out one set, or raises."""

    def __init__(self, held: Collateral | Exception = COLLATERAL) -> None:
        self.held = held
        self.asked: list[tuple[str, str]] = []

    async def collateral_for(self, fmspc: str, authority: str, now: EpochSeconds) -> Collateral:
        self.asked.append((fmspc, authority))
        if isinstance(self.held, Exception):
            raise self.held
        return self.held


def verifier(shelf: Shelf | None = None, registered: Iterable[str] = ()) -> AzureSgxVerifier:
    return AzureSgxVerifier(shelf or Shelf(), INTEL_ROOT, TcbPolicy(), lambda: frozenset(registered))


def evidence(quote: bytes = QUOTE, version: int = 1, nonce: bytes | None = None) -> Evidence:
    return Evidence(quote, b"a key", version, nonce, "https://core.example.com")


def refusal(checked: AzureSgxVerifier, shown: Evidence, now: int = NOW) -> EvidenceRefusedError:
    with pytest.raises(EvidenceRefusedError) as caught:
        asyncio.run(checked.verify(shown, EpochSeconds(now)))
    return caught.value


def test_the_real_quote_is_genuine_and_of_another_product() -> None:
    shelf = Shelf()
    error = refusal(verifier(shelf), evidence())
    assert (error.reason_code, error.explanation_code) == ("wrong_product", "FORBIDDEN_ENCLAVE")
    assert shelf.asked == [("00A067110000", "processor")]
    assert error.facts["mr_enclave"].startswith(MRENCLAVE)
    assert error.facts["root"] == "intel"
    assert error.facts["status"] == "ConfigurationAndSWHardeningNeeded"
    assert "INTEL-SA-00289" in error.facts["advisories"]


def test_a_day_after_its_collateral_the_verdict_is_open() -> None:
    with pytest.raises(EvidenceUndecidedError) as caught:
        asyncio.run(verifier().verify(evidence(), EpochSeconds(1_752_919_278 + 86_400)))
    assert caught.value.reason_code == "collateral_expired"


@pytest.mark.parametrize(
    ("quote", "code", "explanation"),
    [
        (b"\0", "bad_quote_format", "BAD_PAYLOAD"),
        (QUOTE[:-1], "bad_quote_format", "BAD_PAYLOAD"),
        (QUOTE + b"\0", "trailing_bytes", "BAD_PAYLOAD"),
        (QUOTE[:112] + bytes([QUOTE[112] ^ 1]) + QUOTE[113:], "bad_signature", "BAD_PAYLOAD"),
        (bytes(1 << 20), "bad_quote_format", "BAD_PAYLOAD"),
    ],
)
def test_quotes_that_prove_nothing(quote: bytes, code: str, explanation: str) -> None:
    error = refusal(verifier(), evidence(quote))
    assert (error.reason_code, error.explanation_code) == (code, explanation)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (CollateralUnavailable(AttestationReason.COLLATERAL_MISSING, "nothing there"), "collateral_missing"),
        (DependencyError("no answer"), "collateral_missing"),
    ],
)
def test_without_collateral_the_verdict_is_open(problem: Exception, code: str) -> None:
    with pytest.raises(EvidenceUndecidedError) as caught:
        asyncio.run(verifier(Shelf(problem)).verify(evidence(), NOW))
    assert caught.value.reason_code == code


def test_report_data_that_a_request_must_have() -> None:
    checked = verifier()
    nonce = bytes(32)
    assert checked.expected(evidence()) == report_data_v1(b"a key")
    assert checked.expected(evidence(version=1, nonce=nonce)) == report_data_v1(b"a key")
    wanted = report_data_v2(b"a key", nonce, "https://core.example.com")
    assert checked.expected(evidence(version=2, nonce=nonce)) == wanted


def test_version_one_is_refused_where_two_is_demanded() -> None:
    error = refusal(replace(verifier(), minimum_report_data_version=2), evidence())
    assert (error.reason_code, error.explanation_code) == ("report_data_mismatch", "BAD_PAYLOAD")
