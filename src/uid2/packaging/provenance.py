"""Where an artifact comes from, as signed in-toto statements in DSSE envelopes (enclave chapter, 8.5).

One JSON line an envelope: the SLSA provenance of the files, then the identity of the enclave among them.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from uid2.packaging.image import encode_document
from uid2.packaging.sigstruct import EnclaveFileError
from uid2.packaging.source import SourceFacts
from uid2.protocol.errors import ConfigurationError

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
IDENTITY_TYPE: Final = "urn:uid2:enclave-identity:v1"
BUILD_TYPE: Final = "urn:uid2:enclave-build:v1"
BUILDER: Final = "urn:uid2:enclave-builder"


def provenance_statement(
    artifacts: Mapping[str, str],
    source: SourceFacts,
    parameters: Mapping[str, Any],
    dependencies: Sequence[Mapping[str, Any]],
) -> bytes:
    """The statement over artifacts (name to SHA-256 in hex). `dependencies` have `name` and `digest`."""
    return encode_document(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(artifacts.items())],
            "predicateType": PROVENANCE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": dict(parameters),
                    "internalParameters": {"SOURCE_DATE_EPOCH": source.epoch},
                    "resolvedDependencies": [
                        {"name": "source", "digest": {"gitCommit": source.commit}},
                        *dependencies,
                    ],
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"uid2": source.version}}},
            },
        }
    )


def identity_statement(package: str, digest: str, identity: Mapping[str, Any]) -> bytes:
    """The statement that the package (name, SHA-256 in hex) holds this enclave."""
    return encode_document(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": package, "digest": {"sha256": digest}}],
            "predicateType": IDENTITY_TYPE,
            "predicate": dict(identity),
        }
    )


def load_provenance_key(pem: bytes, name: str) -> Ed25519PrivateKey:
    """ConfigurationError when the file holds no Ed25519 private key without a passphrase."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(
            f"{name} holds no Ed25519 private key in PEM",
            next_step="make one: openssl genpkey -algorithm ed25519 -out key.pem",
        )
    return key


def sign_statement(statement: bytes, key: Ed25519PrivateKey) -> bytes:
    """The DSSE envelope, one line of JSON without its end."""
    return encode_document(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(statement).decode(),
            "signatures": [
                {
                    "keyid": key_id(key.public_key()),
                    "sig": base64.b64encode(key.sign(_signed_bytes(PAYLOAD_TYPE, statement))).decode(),
                }
            ],
        }
    )


def verify_envelope(line: bytes, public_key: Ed25519PublicKey) -> dict[str, Any]:
    """The statement of an envelope that this key signed. Raises EnclaveFileError."""
    try:
        envelope = msgspec.json.decode(line)
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"]]
    except (ValueError, KeyError, TypeError):
        raise EnclaveFileError("the provenance is no DSSE envelope") from None
    if kind != PAYLOAD_TYPE:
        raise EnclaveFileError("the provenance holds something other than an in-toto statement")
    for signature in signatures:
        try:
            public_key.verify(signature, _signed_bytes(kind, payload))
        except InvalidSignature:
            continue
        statement: dict[str, Any] = msgspec.json.decode(payload)
        return statement
    raise EnclaveFileError("the provenance is not signed by this key", next_step="take the key of who published it")


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("no Ed25519 public key in PEM", next_step="openssl pkey -in key.pem -pubout")
    return key


def key_id(public_key: Ed25519PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hex."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _signed_bytes(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
