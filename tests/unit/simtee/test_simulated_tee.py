"""The simulated TEE: its collateral as a PCS serves it, its quotes over a socket, and a knob for each verdict."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from uid2.attestation.claims import check_enclave
from uid2.attestation.collateral_pcs import FetchedDocument, PcsCollateral
from uid2.attestation.policy import TcbPolicy
from uid2.attestation.quote import DEBUG, encode_quote, parse_quote
from uid2.attestation.reasons import AttestationError
from uid2.attestation.roots import test_root as root_for_tests
from uid2.attestation.tee.sources import QuoteUnavailableError
from uid2.attestation.verify import VerifiedQuote, verify_quote
from uid2.protocol.ids import EpochSeconds
from uid2.simtee.client import SocketQuoteSource
from uid2.simtee.pcs import BASE, answer
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import QuotingService
from uid2.simtee.scenario import Scenario, SimulatedEnclave

NOW = EpochSeconds(int(time.time()))
ENCLAVE = SimulatedEnclave(bytes(8) + b"\x11" * 24)
REPORT_DATA = bytes(range(64))
POLICY = TcbPolicy()


def fetched(platform: SimulatedPlatform, old_names: bool = False) -> Any:
    async def fetch(url: str) -> FetchedDocument:
        parts = urlsplit(url)
        found = answer(platform, parts.path, parts.query, old_names)
        headers = {name.lower(): value for name, value in (found.headers or {}).items()}
        return FetchedDocument(found.status, headers, found.body)

    source = PcsCollateral(f"http://127.0.0.1{BASE}", fetch)
    authority: Any = "platform" if platform.scenario.platform_authority else "processor"
    return asyncio.run(source.collateral_for(platform.scenario.fmspc, authority, NOW))


def verified(scenario: Scenario, enclave: SimulatedEnclave = ENCLAVE, later: int = 0) -> VerifiedQuote:
    platform = SimulatedPlatform.create(NOW, scenario)
    root = root_for_tests(platform.root_der)
    return verify_quote(
        platform.quote(REPORT_DATA, enclave), fetched(platform), root, POLICY, EpochSeconds(NOW + later)
    )


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("platform_authority", [False, True])
def test_collateral_comes_through_the_service_as_it_was_made(old_names: bool, platform_authority: bool) -> None:
    platform = SimulatedPlatform.create(NOW, Scenario(platform_authority=platform_authority))
    assert fetched(platform, old_names).to_bundle() == platform.collateral().to_bundle()


def test_what_the_service_does_not_have_is_not_found() -> None:
    platform = SimulatedPlatform.create(NOW)
    for path, query in (("/tcb", "fmspc=00906ED50000"), ("/pckcrl", "ca=platform"), ("/other", ""), ("/tcb", "")):
        assert answer(platform, BASE + path, query).status == 404


def test_a_platform_that_is_up_to_date_is_verified() -> None:
    quote = verified(Scenario())
    assert quote.status == "UpToDate"
    assert quote.root_kind == "TEST"
    assert quote.report_data == REPORT_DATA
    check_enclave(quote, [quote.mr_enclave], simulated_allowed=True)
    with pytest.raises(AttestationError):
        check_enclave(quote, [quote.mr_enclave], simulated_allowed=False)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(tcb_status="Revoked"),
        Scenario(qe_status="Revoked"),
        Scenario(tcb_status="OutOfDate"),
        Scenario(revoked=frozenset({"pck"})),
        Scenario(revoked=frozenset({"pck_ca"})),
        Scenario(revoked=frozenset({"tcb_signer"})),
        Scenario(tcb_info_fmspc="FFFFFFFFFF01"),
        Scenario(tcb_info_pce_id="0001"),
        Scenario(tcb_type=1),
        Scenario(lowest_component=255),
        Scenario(collateral_begins=-7200, collateral_ends=-3600),
        Scenario(authentication_data=bytes(31)),
        Scenario(certification_type=4),
        Scenario(qe_report_padding=b"\x01" * 32),
        Scenario(qe_debug=True),
        Scenario(qe_signer_known=False),
    ],
    ids=lambda scenario: str(
        [name for name in scenario.__slots__ if getattr(scenario, name) != getattr(Scenario(), name)]
    ),
)
def test_each_fault_of_a_platform_is_refused(scenario: Scenario) -> None:
    with pytest.raises(AttestationError):
        verified(scenario)


def test_a_debug_enclave_and_expired_collateral_are_refused() -> None:
    with pytest.raises(AttestationError):
        check_enclave(
            quote := verified(Scenario(), replace(ENCLAVE, flags=ENCLAVE.flags | DEBUG)),
            [quote.mr_enclave],
            simulated_allowed=True,
        )
    with pytest.raises(AttestationError):
        verified(Scenario(), later=8 * 86_400)


def test_another_platforms_root_does_not_vouch() -> None:
    one, other = SimulatedPlatform.create(NOW), SimulatedPlatform.create(NOW)
    with pytest.raises(AttestationError):
        verify_quote(one.quote(REPORT_DATA, ENCLAVE), one.collateral(), root_for_tests(other.root_der), POLICY, NOW)


def test_a_quote_encodes_as_it_was_parsed() -> None:
    quote = SimulatedPlatform.create(NOW).quote(REPORT_DATA, ENCLAVE)
    assert encode_quote(parse_quote(quote)) == quote


@pytest.fixture
def service(tmp_path: Path) -> Iterator[QuotingService]:
    quoting = QuotingService(tmp_path / "q", SimulatedPlatform.create(NOW), ENCLAVE)
    quoting.start()
    yield quoting
    quoting.stop()


def test_quotes_come_over_the_socket(service: QuotingService, tmp_path: Path) -> None:
    source = SocketQuoteSource(str(tmp_path / "q"))
    assert parse_quote(source.quote(REPORT_DATA)).report.report_data == REPORT_DATA
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"report_data":1}', b'{"report_data":"AAAA"}'])
def test_a_faulty_request_is_answered_with_its_fault(service: QuotingService, line: bytes) -> None:
    assert "error" in service.answer(line)


def test_a_quote_over_other_data_is_not_taken(service: QuotingService, tmp_path: Path, monkeypatch: Any) -> None:
    stale = service.answer(b'{"report_data":"' + b"A" * 86 + b'=="}')
    monkeypatch.setattr(QuotingService, "answer", lambda self, line: stale)
    with pytest.raises(QuoteUnavailableError, match="other report data"):
        SocketQuoteSource(str(tmp_path / "q")).quote(REPORT_DATA)


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuoteUnavailableError, match="does not answer"):
        SocketQuoteSource(str(tmp_path / "none")).quote(REPORT_DATA)
