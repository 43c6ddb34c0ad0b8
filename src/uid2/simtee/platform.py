"""A simulated quoting platform: its quotes and its collateral (enclave chapter, section 9)."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from uid2.attestation.collateral import Collateral, collateral_of
from uid2.attestation.quote import (
    DEBUG,
    INTEL_QE_VENDOR,
    Quote,
    QuoteHeader,
    ReportBody,
    encode_header,
    encode_quote,
    encode_report_body,
)
from uid2.protocol.ids import EpochSeconds
from uid2.simtee.certificates import COMPONENTS, PCE_SVN, Authority, Hierarchy, make_hierarchy
from uid2.simtee.scenario import Scenario, SimulatedEnclave

# The simulated quoting enclave's signer: the digest of a text, so no real enclave can have it.
QE_MR_SIGNER: Final = hashlib.sha256(b"uid2 simulated quoting enclave").digest()
QE_SVN: Final = 8
_INIT_PROVISION_64: Final = 0x15


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The exact text under the signature, and r‖s in 64 bytes."""

    text: str
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SimulatedPlatform:
    scenario: Scenario
    hierarchy: Hierarchy = field(repr=False)
    attestation_key: ec.EllipticCurvePrivateKey = field(repr=False)
    tcb_info: SignedDocument = field(repr=False)
    qe_identity: SignedDocument = field(repr=False)

    @classmethod
    def create(
        cls,
        now: EpochSeconds,
        scenario: Scenario | None = None,
        crl_url: str | None = None,
        root: Authority | None = None,
    ) -> "SimulatedPlatform":
        """New keys, certificates and documents as of `now` (epoch seconds); several platforms may share a `root`."""
        chosen = Scenario() if scenario is None else scenario
        hierarchy = make_hierarchy(chosen, now, crl_url, root)
        key = hierarchy.tcb_signer.key
        return cls(
            scenario=chosen,
            hierarchy=hierarchy,
            attestation_key=ec.generate_private_key(ec.SECP256R1()),
            tcb_info=_signed(_tcb_info(chosen, now), key),
            qe_identity=_signed(_qe_identity(chosen, now), key),
        )

    @property
    def root_der(self) -> bytes:
        return self.hierarchy.root.der

    @property
    def root_pem(self) -> str:
        return self.hierarchy.root.pem

    def collateral(self) -> Collateral:
        """The set for this platform's FMSPC."""
        return collateral_of(
            pck_crl_issuer_chain=self.hierarchy.pck_crl_chain,
            root_ca_crl=self.hierarchy.root_crl,
            pck_crl=self.hierarchy.pck_crl,
            tcb_info_issuer_chain=self.hierarchy.signer_chain,
            tcb_info=self.tcb_info.text,
            tcb_info_signature=self.tcb_info.signature,
            qe_identity_issuer_chain=self.hierarchy.signer_chain,
            qe_identity=self.qe_identity.text,
            qe_identity_signature=self.qe_identity.signature,
        )

    def quote(self, report_data: bytes, enclave: SimulatedEnclave) -> bytes:
        """A quote of version 3 over 64 bytes of report data."""
        scenario = self.scenario
        header = QuoteHeader(3, 2, 0, QE_SVN, PCE_SVN, INTEL_QE_VENDOR, bytes(20))
        attributes = enclave.flags.to_bytes(8, "little") + enclave.xfrm.to_bytes(8, "little")
        report = replace(
            _report(enclave.mr_enclave, enclave.mr_signer, attributes, enclave.product_id, enclave.svn, report_data),
            misc_select=enclave.misc_select,
        )
        signed = encode_header(header) + encode_report_body(report)
        public = self.attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        flags = _INIT_PROVISION_64 | (DEBUG if scenario.qe_debug else 0)
        signer = QE_MR_SIGNER if scenario.qe_signer_known else bytes(32)
        vouched = hashlib.sha256(public + scenario.authentication_data).digest() + scenario.qe_report_padding
        qe_attributes = flags.to_bytes(8, "little") + (0xE7).to_bytes(8, "little")
        qe_report = _report(bytes(32), signer, qe_attributes, 1, QE_SVN, vouched)
        return encode_quote(
            Quote(
                header=header,
                report=report,
                signed=signed,
                signature=sign_raw(self.attestation_key, signed),
                attestation_key=public,
                qe_report=qe_report,
                qe_report_signature=sign_raw(self.hierarchy.pck.key, encode_report_body(qe_report)),
                auth_data=scenario.authentication_data,
                certification_type=scenario.certification_type,
                certification_data=self.hierarchy.pck_chain.encode() + b"\0",
            )
        )


def sign_raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA over SHA-256 as r‖s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _report(
    mr_enclave: bytes, mr_signer: bytes, attributes: bytes, product_id: int, svn: int, report_data: bytes
) -> ReportBody:
    return ReportBody(
        cpu_svn=COMPONENTS,
        misc_select=0,
        isv_ext_prod_id=bytes(16),
        attributes=attributes,
        mr_enclave=mr_enclave,
        mr_signer=mr_signer,
        config_id=bytes(64),
        isv_prod_id=product_id,
        isv_svn=svn,
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=report_data,
    )


def _signed(document: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> SignedDocument:
    text = msgspec.json.encode(document).decode()
    return SignedDocument(text, sign_raw(key, text.encode()))


def _window(scenario: Scenario, now: EpochSeconds) -> dict[str, str]:
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "issueDate": _text(moment + timedelta(seconds=scenario.collateral_begins)),
        "nextUpdate": _text(moment + timedelta(seconds=scenario.collateral_ends)),
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tcb_info(scenario: Scenario, now: EpochSeconds) -> dict[str, Any]:
    lowest = [min(scenario.lowest_component, 255)] + [0] * 15
    level = {
        "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in lowest], "pcesvn": PCE_SVN},
        "tcbDate": _text(scenario.tcb_date),
        "tcbStatus": scenario.tcb_status,
        "advisoryIDs": list(scenario.advisories),
    }
    return {
        "id": "SGX",
        "version": 3,
        **_window(scenario, now),
        "fmspc": scenario.fmspc if scenario.tcb_info_fmspc is None else scenario.tcb_info_fmspc,
        "pceId": scenario.tcb_info_pce_id,
        "tcbType": scenario.tcb_type,
        "tcbEvaluationDataNumber": scenario.evaluation_number,
        "tcbLevels": [level],
    }


def _qe_identity(scenario: Scenario, now: EpochSeconds) -> dict[str, Any]:
    level = {"tcb": {"isvsvn": QE_SVN}, "tcbDate": _text(scenario.tcb_date), "tcbStatus": scenario.qe_status}
    return {
        "id": "QE",
        "version": 2,
        **_window(scenario, now),
        "tcbEvaluationDataNumber": scenario.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MR_SIGNER.hex(),
        "isvprodid": 1,
        "tcbLevels": [level],
    }
