"""The root of trust: Intel's certificate by content, or a test root in development (enclave chapter, 2.1 and 9.3)."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from uid2.protocol.errors import ConfigurationError

RootKind = Literal["intel", "TEST"]

# Certificates of simulated platforms carry this in their subjects.
TEST_MARK: Final = "TEST ONLY"

INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
_INTEL_ROOT: Final = base64.b64decode(
    "MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwg"
    "U0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkG"
    "A1UECAwCQ0ExCzAJBgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwR"
    "SW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFy"
    "YTELMAkGA1UECAwCQ0ExCzAJBgNVBAYTAlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPW"
    "sCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOBuzCBuDAfBgNVHSME"
    "GDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJMEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50"
    "cnVzdGVkc2VydmljZXMuaW50ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SV"
    "Ur9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYIKoZIzj0EAwIDSQAwRgIhAOW/"
    "5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI="
)


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A self-signed certificate as DER. Chains are compared with it byte by byte, never by name."""

    der: bytes = field(repr=False)
    kind: RootKind

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest()


INTEL_ROOT: Final = TrustRoot(_INTEL_ROOT, "intel")


def test_root(pem_or_der: bytes) -> TrustRoot:
    """A root for development, PEM or DER. Raises ConfigurationError: no certificate, or Intel's own."""
    try:
        parse = x509.load_pem_x509_certificate if b"-----BEGIN" in pem_or_der else x509.load_der_x509_certificate
        der = parse(pem_or_der).public_bytes(Encoding.DER)
    except ValueError:
        raise ConfigurationError(
            "the attestation root is not a certificate",
            next_step="give a file with one certificate, PEM or DER, as dangerous_attestation_root",
        ) from None
    if der == INTEL_ROOT.der:
        raise ConfigurationError(
            "the attestation root is Intel's own",
            next_step="remove dangerous_attestation_root: Intel's root is built in",
        )
    return TrustRoot(der, "TEST")
