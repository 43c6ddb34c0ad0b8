"""Collateral from a folder, for verifiers without network (points settled, 9).

tcbinfo-<fmspc>.json  tcbinfo-<fmspc>.chain.pem (or tcbinfo.chain.pem)  qeidentity.json  qeidentity.chain.pem
pckcrl-processor.der  pckcrl-platform.der  rootcacrl.der  pckcrl.chain.pem (else the chain of the TCB info)
"""

from collections.abc import Callable
from typing import Any, Final, final

import msgspec

from uid2.attestation.collateral import Collateral, collateral_of
from uid2.attestation.pck import CertificateAuthority
from uid2.attestation.reasons import AttestationReason, CollateralUnavailable
from uid2.protocol.ids import EpochSeconds

ReadFile = Callable[[str], bytes]
_NEXT_STEP: Final = "put the file into attestation_collateral_dir as the PCS serves it"


def signed_part(document: bytes, member: str) -> tuple[str, bytes]:
    """The exact text of `member` and the raw signature. Raises CollateralUnavailable.

    A signature covers the text as it was sent; encoding it again would break it.
    """
    try:
        parts: dict[str, msgspec.Raw] = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        signature: Any = msgspec.json.decode(parts["signature"])
        return bytes(parts[member]).decode(), bytes.fromhex(signature)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise CollateralUnavailable(
            AttestationReason.COLLATERAL_MISSING,
            f"collateral unusable: no {member} with its signature",
            next_step="fetch the document anew",
        ) from None


@final
class OfflineCollateral:
    """`read` gives the bytes of a file by name and raises OSError when there is none."""

    def __init__(self, read: ReadFile) -> None:
        self._read = read

    async def collateral_for(
        self,
        fmspc: str,
        authority: CertificateAuthority,
        now: EpochSeconds,  # noqa: ARG002 - the verdict on dates is the verifier's
    ) -> Collateral:
        tcb_info, tcb_signature = signed_part(
            self._first(f"tcbinfo-{fmspc.upper()}.json", f"tcbinfo-{fmspc.lower()}.json"), "tcbInfo"
        )
        qe_identity, qe_signature = signed_part(self._file("qeidentity.json"), "enclaveIdentity")
        chain = self._first(f"tcbinfo-{fmspc.lower()}.chain.pem", "tcbinfo.chain.pem").decode("ascii", "replace")
        return collateral_of(
            pck_crl_issuer_chain=self._optional("pckcrl.chain.pem", chain),
            root_ca_crl=self._file("rootcacrl.der"),
            pck_crl=self._file(f"pckcrl-{authority}.der"),
            tcb_info_issuer_chain=chain,
            tcb_info=tcb_info,
            tcb_info_signature=tcb_signature,
            qe_identity_issuer_chain=self._file("qeidentity.chain.pem").decode("ascii", "replace"),
            qe_identity=qe_identity,
            qe_identity_signature=qe_signature,
        )

    def _first(self, name: str, otherwise: str) -> bytes:
        try:
            return self._read(name)
        except OSError:
            return self._file(otherwise)

    def _optional(self, name: str, otherwise: str) -> str:
        try:
            return self._read(name).decode("ascii", "replace")
        except OSError:
            return otherwise

    def _file(self, name: str) -> bytes:
        try:
            return self._read(name)
        except OSError:
            raise CollateralUnavailable(
                AttestationReason.COLLATERAL_MISSING, f"collateral missing: {name}", next_step=_NEXT_STEP
            ) from None
