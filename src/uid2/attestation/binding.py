"""What a quote vouches for: the 64 bytes of report data (enclave chapter, 3.1 and 3.2)."""

import hashlib
from typing import Final
from urllib.parse import urlsplit

_DOMAIN_V2: Final = b"uid2-azure-sgx-v2\0"
# Another domain than a key's digest or version 2, so that evidence can never attest.
_DOMAIN_EVIDENCE: Final = b"uid2-operator-evidence-v1\0"
_PADDING: Final = bytes(32)


def report_data_v1(public_key_der: bytes) -> bytes:
    """SHA-256 of the key's SubjectPublicKeyInfo, then 32 zero bytes."""
    return hashlib.sha256(public_key_der).digest() + _PADDING


def report_data_v2(public_key_der: bytes, nonce: bytes, endpoint: str) -> bytes:
    """SHA-256 over the domain and, each after its length as u32 big-endian, key, nonce, endpoint; 32 zero bytes."""
    return _digest(_DOMAIN_V2, public_key_der, nonce, endpoint.encode()) + _PADDING


def evidence_report_data(nonce: bytes, configuration_digest: bytes) -> bytes:
    """The same form over another domain, an auditor's nonce and the configuration's SHA-256."""
    return _digest(_DOMAIN_EVIDENCE, nonce, configuration_digest) + _PADDING


def endpoint_of(url: str) -> str:
    """Scheme and authority, without path or trailing slash."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _digest(domain: bytes, *parts: bytes) -> bytes:
    digest = hashlib.sha256(domain)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()
