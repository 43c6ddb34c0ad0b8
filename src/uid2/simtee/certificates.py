"""The certificates of one simulated platform: a root for tests only, and what hangs on it (enclave chapter, 9.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from uid2.attestation.roots import TEST_MARK
from uid2.protocol.ids import EpochSeconds
from uid2.simtee.scenario import Scenario
from uid2.simtee.sgx_extension import OID_TEXT, encode_sgx_extension

ROOT_LIFETIME: Final = timedelta(days=30)
# Marks the root as one of a simulator; not critical, so that verifiers read past it.
MARKER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.55555.2.1")
COMPONENTS: Final = bytes((2, 2, 2, 2, 2, 2, *([0] * 10)))
PCE_SVN: Final = 13


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Keys live in memory only. `crl_url` is the root's distribution point."""

    root: Authority
    pck_ca: Authority
    pck: Authority
    tcb_signer: Authority
    root_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)

    @property
    def pck_chain(self) -> str:
        return self.pck.pem + self.pck_ca.pem + self.root.pem

    @property
    def signer_chain(self) -> str:
        return self.tcb_signer.pem + self.root.pem

    @property
    def pck_crl_chain(self) -> str:
        return self.pck_ca.pem + self.root.pem


def make_root(now: EpochSeconds, crl_url: str | None = None, *, marked: bool = True) -> Authority:
    """A new root; only one that is not `marked` bears no sign of being for tests."""
    name = f"{_mark(marked)}SGX Root"
    return _issue(name, None, datetime.fromtimestamp(now, UTC), _root_extensions(crl_url))


def make_hierarchy(
    scenario: Scenario, now: EpochSeconds, crl_url: str | None = None, root: Authority | None = None
) -> Hierarchy:
    """PCK authority, PCK leaf and TCB signer under `root` or a new one, with the CRLs of the two authorities."""
    moment = datetime.fromtimestamp(now, UTC)
    mark = _mark(scenario.marked)
    kind = "Platform" if scenario.platform_authority else "Processor"
    root = make_root(now, crl_url, marked=scenario.marked) if root is None else root
    pck_ca = _issue(f"{mark}SGX PCK {kind} CA", root, moment, _authority_extensions)
    cpu_svn = bytes((COMPONENTS[0] + 1, *COMPONENTS[1:])) if scenario.component_disagrees else COMPONENTS
    extension = encode_sgx_extension(
        cpu_svn=cpu_svn,
        components=COMPONENTS,
        pce_svn=PCE_SVN,
        pce_id=bytes(2),
        fmspc=bytes.fromhex(scenario.fmspc),
        platform_authority=scenario.platform_authority,
    )
    pck_end = min(timedelta(seconds=scenario.pck_ends), ROOT_LIFETIME)
    pck = _issue(f"{mark}SGX PCK Certificate", pck_ca, moment, _leaf_extensions(extension), pck_end)
    signer = _issue(f"{mark}SGX TCB Signing", root, moment, _leaf_extensions(None))
    named = {"pck": pck, "pck_ca": pck_ca, "tcb_signer": signer, "root": root}
    revoked = {name: named[name].certificate for name in scenario.revoked}
    ends = (
        moment + timedelta(seconds=scenario.collateral_begins),
        moment + timedelta(seconds=scenario.collateral_ends),
    )
    return Hierarchy(
        root=root,
        pck_ca=pck_ca,
        pck=pck,
        tcb_signer=signer,
        root_crl=_crl(root, [certificate for name, certificate in revoked.items() if name != "pck"], ends),
        pck_crl=_crl(pck_ca, [certificate for name, certificate in revoked.items() if name == "pck"], ends),
    )


def _mark(marked: bool) -> str:
    return f"UID2 {TEST_MARK} " if marked else ""


_Extend = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def _issue(
    name: str, issuer: Authority | None, now: datetime, extend: _Extend, lifetime: timedelta = ROOT_LIFETIME
) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuing = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=2))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), critical=False)
    )
    return Authority(extend(builder).sign(issuing, hashes.SHA256()), key)


def _authority_extensions(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(
        _usage(signs_certificates=True), critical=True
    )


def _root_extensions(crl_url: str | None) -> _Extend:
    def extend(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        marked = _authority_extensions(builder).add_extension(
            x509.UnrecognizedExtension(MARKER, b"\x05\x00"), critical=False
        )
        if crl_url is None:
            return marked
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        return marked.add_extension(x509.CRLDistributionPoints([point]), critical=False)

    return extend


def _leaf_extensions(sgx: bytes | None) -> _Extend:
    def extend(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        leaf = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(
            _usage(signs_certificates=False), critical=True
        )
        if sgx is None:
            return leaf
        oid = x509.ObjectIdentifier(OID_TEXT)
        return leaf.add_extension(x509.UnrecognizedExtension(oid, sgx), critical=False)

    return extend


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _crl(authority: Authority, revoked: list[x509.Certificate], window: tuple[datetime, datetime]) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(window[0])
        .next_update(window[1])
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(window[0])
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
