"""Collateral: what Intel has signed about platforms and quoting enclaves (enclave chapter, 2.1, 2.7 and 2.8).

The bundle is one JSON object of nine texts: three issuer chains (PEM), TCB info and QE identity exactly as signed,
their signatures (hex of 64 bytes) and the two CRLs (hex of DER). A tenth, `pck_certificate_chain`, is dropped: it
would replace the chain of the quote.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
from cryptography import x509

from uid2.attestation.pck import CertificateAuthority, parse_chain
from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
from uid2.protocol.ids import EpochSeconds

TEXTS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "tcb_info", "qe_identity_issuer_chain", "qe_identity")
HEXES: Final = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_NEXT_STEP: Final = "fetch the collateral anew, or correct attestation_collateral_url or attestation_collateral_dir"


@dataclass(frozen=True, slots=True)
class Collateral:
    """One set for one FMSPC. `valid_from` and `valid_until` (epoch seconds) are the window in which all parts hold."""

    pck_crl_issuer_chain: str = field(repr=False)
    root_ca_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)
    tcb_info_issuer_chain: str = field(repr=False)
    tcb_info: str = field(repr=False)
    tcb_info_signature: bytes = field(repr=False)
    qe_identity_issuer_chain: str = field(repr=False)
    qe_identity: str = field(repr=False)
    qe_identity_signature: bytes = field(repr=False)
    valid_from: EpochSeconds
    valid_until: EpochSeconds

    @classmethod
    def from_bundle(cls, bundle: str | bytes) -> "Collateral":
        """Raises CollateralUnavailable: members missing or unreadable."""
        try:
            members: Any = msgspec.json.decode(bundle)
            texts: dict[str, Any] = {name: members[name] for name in TEXTS}
            texts |= {name: bytes.fromhex(members[name]) for name in HEXES}
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise _missing(f"the bundle lacks one of {', '.join(TEXTS + HEXES)}") from None
        if not all(isinstance(texts[name], str) for name in TEXTS):
            raise _missing("a member of the bundle is not a text")
        return collateral_of(**texts)

    def to_bundle(self) -> str:
        members = {name: getattr(self, name) for name in TEXTS}
        return msgspec.json.encode(members | {name: getattr(self, name).hex() for name in HEXES}).decode()


class CollateralSource(Protocol):
    async def collateral_for(self, fmspc: str, authority: CertificateAuthority, now: EpochSeconds) -> Collateral:
        """Raises CollateralUnavailable."""
        ...


def collateral_of(
    *,
    pck_crl_issuer_chain: str,
    root_ca_crl: bytes,
    pck_crl: bytes,
    tcb_info_issuer_chain: str,
    tcb_info: str,
    tcb_info_signature: bytes,
    qe_identity_issuer_chain: str,
    qe_identity: str,
    qe_identity_signature: bytes,
) -> Collateral:
    """Puts the parts together and reads their dates. Raises CollateralUnavailable: a part cannot be read."""
    starts: list[float] = []
    ends: list[float] = []
    for name, text in (("TCB info", tcb_info), ("QE identity", qe_identity)):
        starts.append(_date(name, text, "issueDate"))
        ends.append(_date(name, text, "nextUpdate"))
    for name, der in (("root CRL", root_ca_crl), ("PCK CRL", pck_crl)):
        start, end = _crl_dates(name, der)
        starts.append(start)
        ends.append(end)
    for name, chain in (("TCB info", tcb_info_issuer_chain), ("QE identity", qe_identity_issuer_chain)):
        try:
            ends.extend(certificate.not_valid_after_utc.timestamp() for certificate in parse_chain(chain.encode()))
        except AttestationError:
            raise _missing(f"the issuer chain of the {name} cannot be read") from None
    return Collateral(
        pck_crl_issuer_chain=pck_crl_issuer_chain,
        root_ca_crl=root_ca_crl,
        pck_crl=pck_crl,
        tcb_info_issuer_chain=tcb_info_issuer_chain,
        tcb_info=tcb_info,
        tcb_info_signature=tcb_info_signature,
        qe_identity_issuer_chain=qe_identity_issuer_chain,
        qe_identity=qe_identity,
        qe_identity_signature=qe_identity_signature,
        valid_from=EpochSeconds(int(max(starts))),
        valid_until=EpochSeconds(int(min(ends))),
    )


def _date(name: str, text: str, member: str) -> float:
    try:
        document: Any = msgspec.json.decode(text)
        moment = datetime.fromisoformat(document[member])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise _missing(f"the {name} has no usable {member}") from None
    if moment.tzinfo is None:
        raise _missing(f"the {member} of the {name} has no time zone")
    return moment.timestamp()


def _crl_dates(name: str, der: bytes) -> tuple[float, float]:
    try:
        crl = x509.load_der_x509_crl(der)
    except ValueError:
        raise _missing(f"the {name} cannot be read") from None
    if crl.next_update_utc is None:
        raise _missing(f"the {name} has no end")
    return crl.last_update_utc.timestamp(), crl.next_update_utc.timestamp()


def _missing(what: str) -> CollateralUnavailable:
    return CollateralUnavailable(
        AttestationReason.COLLATERAL_MISSING, f"collateral unusable: {what}", next_step=_NEXT_STEP
    )
