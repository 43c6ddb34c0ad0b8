"""Registered enclaves (core chapter, 11.7): which measurements Core accepts, and the signed log of each decision."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from uid2.admin.change import Change
from uid2.admin.enclave_log import append
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.records import ENCLAVES
from uid2.attestation.claims import SIMULATED_PREFIX
from uid2.attestation.quote import parse_quote
from uid2.attestation.reasons import AttestationError
from uid2.protocol.enclaves import Enclave

AZURE_SGX: Final = "azure-sgx"
DEVELOPMENT: Final = "development"
_MRENCLAVE: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Measurement:
    """An enclave to be trusted: its identifier, what it was read from, and the digest of that."""

    identifier: str
    source: str
    evidence: str | None = None
    simulated: bool = False


def measurement_of_record(data: bytes) -> Measurement:
    """From an identity record (identity.json of a build). RefusedError: none, or without MRENCLAVE."""
    try:
        members: Any = msgspec.json.decode(data)
        identifier = members["mr_enclave"].lower() if "mr_enclave" in members else members["mrenclave"].lower()
        simulated = members.get("measurement") == "simulated"
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise RefusedError(
            "this is no identity record: it has no member mr_enclave", next_step="give identity.json of a build"
        ) from None
    return Measurement(identifier, "record", hashlib.sha256(data).hexdigest(), simulated)


def measurement_of_quote(data: bytes) -> Measurement:
    """From an SGX quote; the quote is not verified here: Core does so whenever an operator attests."""
    try:
        quote = parse_quote(data)
    except AttestationError as error:
        raise RefusedError(f"this is no quote: {error.message}", next_step="give the bytes of an SGX quote") from None
    return Measurement(quote.report.mr_enclave.hex(), "quote", hashlib.sha256(data).hexdigest())


def add_enclave(
    change: Change,
    name: str,
    measurement: Measurement,
    *,
    actor: str,
    key: Ed25519PrivateKey,
    protocol: str = AZURE_SGX,
) -> Enclave:
    """Trust a measurement. A simulated one counts in a development universe only."""
    identifier = measurement.identifier
    if not name.strip():
        raise RefusedError("an enclave needs a name")
    if protocol == AZURE_SGX and not _MRENCLAVE.match(identifier):
        raise RefusedError("an MRENCLAVE has 64 hexadecimal digits in lower case")
    simulated = measurement.simulated or (protocol == AZURE_SGX and identifier.startswith(SIMULATED_PREFIX))
    if simulated and change.settings.environment != DEVELOPMENT:
        raise RefusedError(
            "this measurement is simulated: no hardware vouches for it",
            next_step="register the record of a build that was made with the enclave's tool chain",
        )
    enclaves = change.records(ENCLAVES)
    enclave = Enclave(name.strip(), protocol, identifier, change.now)
    if any(other.name == enclave.name for other in enclaves):
        raise RefusedError(f"there is an enclave named {enclave.name}", status=409, next_step="choose another name")
    if enclave in enclaves:
        raise RefusedError("this measurement is registered already", status=409, next_step="uid2 admin enclave list")
    change.replace(ENCLAVES, (*enclaves, enclave))
    _log(change, key, actor, "add", enclave, measurement.source, measurement.evidence)
    return enclave


def remove_enclave(change: Change, name: str, *, actor: str, key: Ed25519PrivateKey) -> Enclave:
    """Operators with this measurement are refused at their next attestation."""
    for enclave in change.records(ENCLAVES):
        if enclave.name == name:
            change.replace(ENCLAVES, (other for other in change.records(ENCLAVES) if other.name != name))
            _log(change, key, actor, "remove", enclave, "identifier", None)
            return enclave
    raise not_found(f"the enclave {name}", "list them: uid2 admin enclave list")


def _log(
    change: Change, key: Ed25519PrivateKey, actor: str, action: str, enclave: Enclave, source: str, evidence: str | None
) -> None:
    append(
        change,
        key,
        {
            "actor": actor,
            "action": action,
            "name": enclave.name,
            "protocol": enclave.protocol,
            "identifier": enclave.identifier,
            "source": source,
            "evidence": evidence,
        },
    )
