"""Collateral from a PCS or PCCS of version 4 (enclave chapter, 2.6)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import unquote

from cryptography import x509

from uid2.attestation.collateral import Collateral, collateral_of
from uid2.attestation.collateral_files import signed_part
from uid2.attestation.pck import CertificateAuthority, parse_chain
from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
from uid2.protocol.ids import EpochSeconds

TCB_CHAIN_HEADERS: Final = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
QE_CHAIN_HEADERS: Final = ("sgx-enclave-identity-issuer-chain",)
CRL_CHAIN_HEADERS: Final = ("sgx-pck-crl-issuer-chain",)
_NEXT_STEP: Final = "check attestation_collateral_url and the way to it; requests are repeated with each attestation"


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """`headers` with lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Fetch = Callable[[str], Awaitable[FetchedDocument]]


@final
class PcsCollateral:
    """`base_url` ends in `/sgx/certification/v4`. `fetch` raises OSError when an address cannot be reached."""

    def __init__(self, base_url: str, fetch: Fetch) -> None:
        self._base = base_url.rstrip("/")
        self._fetch = fetch

    async def collateral_for(
        self,
        fmspc: str,
        authority: CertificateAuthority,
        now: EpochSeconds,  # noqa: ARG002 - the verdict on dates is the verifier's
    ) -> Collateral:
        tcb, identity, pck_crl = await asyncio.gather(
            self._get(f"/tcb?fmspc={fmspc}"),
            self._get("/qe/identity"),
            self._get(f"/pckcrl?ca={authority}&encoding=der"),
        )
        tcb_info, tcb_signature = signed_part(tcb.body, "tcbInfo")
        qe_identity, qe_signature = signed_part(identity.body, "enclaveIdentity")
        crl_chain = _chain(pck_crl, CRL_CHAIN_HEADERS)
        return collateral_of(
            pck_crl_issuer_chain=crl_chain,
            root_ca_crl=await self._root_crl(crl_chain),
            pck_crl=_der(pck_crl.body),
            tcb_info_issuer_chain=_chain(tcb, TCB_CHAIN_HEADERS),
            tcb_info=tcb_info,
            tcb_info_signature=tcb_signature,
            qe_identity_issuer_chain=_chain(identity, QE_CHAIN_HEADERS),
            qe_identity=qe_identity,
            qe_identity_signature=qe_signature,
        )

    async def _root_crl(self, chain: str) -> bytes:
        # A PCCS serves it; Intel's PCS does not, there the root names its distribution point.
        try:
            return _der((await self._get("/rootcacrl")).body)
        except CollateralUnavailable:
            point = _distribution_point(chain)
            if point is None:
                raise
            return _der((await self._get_address(point)).body)

    async def _get(self, path: str) -> FetchedDocument:
        return await self._get_address(self._base + path)

    async def _get_address(self, address: str) -> FetchedDocument:
        try:
            document = await self._fetch(address)
        except OSError as error:
            raise _missing(f"{address} cannot be reached ({type(error).__name__})") from None
        if document.status != 200:
            raise _missing(f"{address} answered {document.status}")
        return document


def _chain(document: FetchedDocument, names: tuple[str, ...]) -> str:
    for name in names:
        if value := document.headers.get(name):
            return unquote(value)
    raise _missing(f"an answer lacks the header {names[0]}")


def _der(body: bytes) -> bytes:
    if body[:1] == b"\x30":
        return body
    try:
        return bytes.fromhex(body.decode("ascii").strip())
    except ValueError:
        raise _missing("a CRL is neither DER nor hexadecimal text") from None


def _distribution_point(chain: str) -> str | None:
    try:
        root = parse_chain(chain.encode())[-1]
        points = root.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (AttestationError, x509.ExtensionNotFound, ValueError):
        return None
    for point in points:
        for name in point.full_name or ():
            if isinstance(name, x509.UniformResourceIdentifier):
                return name.value
    return None


def _missing(what: str) -> CollateralUnavailable:
    return CollateralUnavailable(
        AttestationReason.COLLATERAL_MISSING, f"collateral missing: {what}", next_step=_NEXT_STEP
    )
