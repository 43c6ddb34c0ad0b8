"""The platform's certificate chain inside a quote, and the SGX extension of its leaf (enclave chapter, 1.4 and 1.5)."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from uid2.attestation.quote import PCK_CHAIN, Quote
from uid2.attestation.reasons import AttestationError, AttestationReason

CertificateAuthority = Literal["processor", "platform"]

_EXTENSION: Final = "1.2.840.113741.1.13.1"
_COMPONENTS: Final = 16
_BLOCK: Final = rb"-----BEGIN CERTIFICATE-----\r?\n(?:[A-Za-z0-9+/=]{1,76}\r?\n)+-----END CERTIFICATE-----"
_CHAIN: Final = re.compile(rb"(?:" + _BLOCK + rb"\r?\n)*" + _BLOCK + rb"(?:\r?\n)?\x00?")
_ONE: Final = re.compile(_BLOCK)


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """What the leaf says of the platform. `fmspc` is 12 upper-case hex digits, `pce_id` 4 hex digits."""

    fmspc: str
    pce_id: str
    pce_svn: int
    cpu_svn: bytes
    components: bytes
    authority: CertificateAuthority
    chain: tuple[x509.Certificate, ...] = field(repr=False)


def platform_key(quote: Quote) -> PlatformKey:
    """Raises AttestationError: another certification data type, anything but a plain PEM chain, no SGX extension."""
    if quote.certification_type != PCK_CHAIN:
        raise AttestationError(
            AttestationReason.UNSUPPORTED_CERTIFICATION,
            f"certification data of type {quote.certification_type}; only a PCK chain (type 5) is accepted",
        )
    chain = parse_chain(quote.certification_data)
    if len(chain) != 3:
        raise _bad(f"the PCK chain has {len(chain)} certificates instead of leaf, issuer and root")
    leaf = chain[0]
    try:
        extension = dcap_qvl.parse_pck_extension_from_pem(leaf.public_bytes(Encoding.PEM))
        components = [extension.get_value(f"{_EXTENSION}.2.{number}") for number in range(1, _COMPONENTS + 1)]
        values = [int.from_bytes(value, "big") for value in components if value]
        if len(values) != _COMPONENTS or max(values) > 255:
            raise _bad("the SGX extension of the PCK leaf lacks TCB components")
        return PlatformKey(
            fmspc=extension.fmspc.hex().upper(),
            pce_id=extension.pce_id.hex().upper(),
            pce_svn=extension.pce_svn,
            cpu_svn=bytes(extension.cpu_svn),
            components=bytes(values),
            authority="platform" if "Platform" in leaf.issuer.rfc4514_string() else "processor",
            chain=chain,
        )
    except ValueError:
        raise _bad("the PCK leaf has no usable SGX extension") from None


def parse_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates of a PEM text that holds nothing else; one final NUL is allowed. Raises AttestationError."""
    if _CHAIN.fullmatch(pem) is None:
        raise _bad("the certificate chain is not a sequence of PEM certificates and nothing else")
    try:
        return tuple(x509.load_pem_x509_certificate(block) for block in _ONE.findall(pem))
    except ValueError:
        raise _bad("a certificate of the chain cannot be read") from None


def _bad(message: str) -> AttestationError:
    return AttestationError(AttestationReason.BAD_CERTIFICATION_DATA, message)
