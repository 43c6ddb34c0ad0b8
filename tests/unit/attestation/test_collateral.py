"""Collateral from folders and over HTTP, and how long it is kept."""

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from tests.unit.attestation.vectors import BUNDLE, QUOTE, TIME, collateral

from uid2.attestation.collateral import Collateral
from uid2.attestation.collateral_cache import CachedCollateral
from uid2.attestation.collateral_files import OfflineCollateral
from uid2.attestation.collateral_pcs import FetchedDocument, PcsCollateral
from uid2.attestation.pck import CertificateAuthority
from uid2.attestation.policy import TcbPolicy, parse_policy
from uid2.attestation.reasons import AttestationReason, CollateralUnavailable
from uid2.attestation.roots import INTEL_ROOT
from uid2.attestation.verify import verify_quote
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds

FMSPC = "00A067110000"
NOW = EpochSeconds(TIME)
TCB = f'{{"tcbInfo":{BUNDLE["tcb_info"]},"signature":"{BUNDLE["tcb_info_signature"]}"}}'.encode()
IDENTITY = f'{{"enclaveIdentity":{BUNDLE["qe_identity"]},"signature":"{BUNDLE["qe_identity_signature"]}"}}'.encode()
FILES = {
    f"tcbinfo-{FMSPC}.json": TCB,
    "tcbinfo.chain.pem": BUNDLE["tcb_info_issuer_chain"].encode(),
    "qeidentity.json": IDENTITY,
    "qeidentity.chain.pem": BUNDLE["qe_identity_issuer_chain"].encode(),
    "pckcrl-processor.der": bytes.fromhex(BUNDLE["pck_crl"]),
    "rootcacrl.der": bytes.fromhex(BUNDLE["root_ca_crl"]),
}


def verifies(parts: Collateral) -> bool:
    return verify_quote(QUOTE, parts, INTEL_ROOT, TcbPolicy(), NOW).fmspc == FMSPC


class Folder:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def __call__(self, name: str) -> bytes:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(name) from None


def test_a_folder() -> None:
    source = OfflineCollateral(Folder(FILES))
    assert verifies(asyncio.run(source.collateral_for(FMSPC, "processor", NOW)))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_a_file(name: str) -> None:
    source = OfflineCollateral(Folder({key: value for key, value in FILES.items() if key != name}))
    with pytest.raises(CollateralUnavailable) as caught:
        asyncio.run(source.collateral_for(FMSPC, "processor", NOW))
    assert caught.value.reason is AttestationReason.COLLATERAL_MISSING
    assert caught.value.next_step


class Pcs:
    """Answers as the services do: `old` with the older header name, `pccs` with hexadecimal CRLs and a root CRL."""

    def __init__(self, *, old: bool = False, pccs: bool = False, status: int = 200) -> None:
        self.asked: list[str] = []
        self._tcb_header = "sgx-tcb-info-issuer-chain" if old else "tcb-info-issuer-chain"
        self._pccs = pccs
        self._status = status

    async def __call__(self, url: str) -> FetchedDocument:
        self.asked.append(url)
        name = url.split("?")[0].rsplit("/", 1)[1]
        chain = quote(BUNDLE["tcb_info_issuer_chain"])
        if name == "tcb":
            return FetchedDocument(self._status, {self._tcb_header: chain}, TCB)
        if name == "identity":
            return FetchedDocument(200, {"sgx-enclave-identity-issuer-chain": chain}, IDENTITY)
        if name == "pckcrl":
            headers = {"sgx-pck-crl-issuer-chain": quote(BUNDLE["pck_crl_issuer_chain"])}
            return FetchedDocument(200, headers, self._crl("pck_crl"))
        if name == "rootcacrl" and not self._pccs:
            return FetchedDocument(404, {}, b"")
        return FetchedDocument(200, {}, self._crl("root_ca_crl"))

    def _crl(self, name: str) -> bytes:
        return BUNDLE[name].encode() if self._pccs else bytes.fromhex(BUNDLE[name])


@pytest.mark.parametrize("pcs", [Pcs(), Pcs(old=True), Pcs(pccs=True)], ids=["pcs", "old header", "pccs"])
def test_a_service(pcs: Pcs) -> None:
    source = PcsCollateral("https://pcs.example/sgx/certification/v4/", pcs)
    assert verifies(asyncio.run(source.collateral_for(FMSPC, "processor", NOW)))
    assert f"https://pcs.example/sgx/certification/v4/tcb?fmspc={FMSPC}" in pcs.asked


def test_the_root_names_where_its_crl_is() -> None:
    pcs = Pcs()
    asyncio.run(PcsCollateral("https://pcs.example/v4", pcs).collateral_for(FMSPC, "processor", NOW))
    assert pcs.asked[-1] == "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


def test_a_service_that_fails() -> None:
    async def unreachable(url: str) -> FetchedDocument:
        raise ConnectionRefusedError(url)

    for fetch, text in ((Pcs(status=429), "answered 429"), (unreachable, "cannot be reached")):
        with pytest.raises(CollateralUnavailable, match=text):
            asyncio.run(PcsCollateral("https://pcs.example/v4", fetch).collateral_for(FMSPC, "processor", NOW))


class Counting:
    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    async def collateral_for(self, fmspc: str, authority: CertificateAuthority, now: EpochSeconds) -> Collateral:
        self.calls += 1
        if self.fails:
            raise CollateralUnavailable(AttestationReason.COLLATERAL_MISSING, "nothing")
        return collateral()


def test_the_cache_asks_again_in_time_and_keeps_the_last_good_set() -> None:
    source = Counting()
    cache = CachedCollateral(source)

    def ask(seconds: int) -> Collateral:
        return asyncio.run(cache.collateral_for(FMSPC, "processor", EpochSeconds(TIME + seconds)))

    ask(0)
    ask(86_399)
    assert source.calls == 1
    ask(86_400)
    assert source.calls == 2
    source.fails = True
    assert ask(20 * 86_400)
    with pytest.raises(CollateralUnavailable):
        ask(40 * 86_400)
    source.fails = False
    assert ask(40 * 86_400)


@pytest.mark.parametrize("name", BUNDLE)
def test_a_bundle_without_a_member(name: str) -> None:
    with pytest.raises(CollateralUnavailable):
        Collateral.from_bundle(json.dumps({key: value for key, value in BUNDLE.items() if key != name}))
    if name != "pck_crl_issuer_chain":  # looked at with the root, in verify
        with pytest.raises(CollateralUnavailable):
            collateral(**{name: "zz"})


def test_a_bundle_round_trip() -> None:
    assert Collateral.from_bundle(collateral().to_bundle()) == collateral()


def test_policies() -> None:
    policy = parse_policy({"accepted_statuses": ["UpToDate"], "accepted_advisories": ["X"], "grace_days": 3})
    assert policy == TcbPolicy(frozenset({"UpToDate"}), frozenset({"X"}), 3)
    assert parse_policy({}) == TcbPolicy()
    wrong = (
        [],
        {"accepted_statuses": ["UptoDate"]},
        {"accepted_statuses": ["Revoked"]},
        {"accepted_statuses": "UpToDate"},
        {"accepted_advisories": [1]},
        {"grace_days": True},
        {"grace_days": -1},
        {"grace": 1},
    )
    for members in wrong:
        with pytest.raises(ConfigurationError, match="attestation_policy"):
            parse_policy(members)
