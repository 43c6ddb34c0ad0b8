"""What Core of a development stack knows of its callers: operator keys, the simulated enclave, cloud keys."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from uid2.devstack.demo_data import OPERATOR_SITE, write_store
from uid2.devstack.key_texts import draw_key_text
from uid2.protocol.api_keys import hash_key
from uid2.protocol.crypto.rsa import load_rsa_private_key, public_der
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochMillis
from uid2.simtee.scenario import SimulatedEnclave

MOST_OPERATORS: Final = 50
# As every simulated measurement it begins with 8 zero bytes, which no real enclave's does.
ENCLAVE: Final = SimulatedEnclave(bytes(8) + hashlib.sha256(b"uid2 development stack").digest()[8:])
JWT_KEY_BITS: Final = 2048

Draw = Callable[[int], bytes]


class ProgramKeys(msgspec.Struct, frozen=True):
    """Keys of the programs of the stack: one an operator, and that of the opt-out service."""

    operators: list[str]
    optout: str

    def __repr__(self) -> str:
        return f"ProgramKeys({len(self.operators)} operators)"


def create_program_stores(directory: Path, *, draw: Draw, now: EpochMillis, scope: str) -> ProgramKeys:
    """Add the stores that only Core reads to the bucket in `directory`."""
    seconds = now // 1000
    product = scope.upper()
    keys = ProgramKeys(
        operators=[draw_key_text(f"{product}-O-L-{OPERATOR_SITE}-", draw) for _ in range(MOST_OPERATORS)],
        optout=draw_key_text(f"{product}-O-L-{OPERATOR_SITE}-", draw),
    )
    records = [
        _operator(key, f"operator-{n}", "azure-sgx", ("OPERATOR", "OPTOUT"), seconds, draw)
        for n, key in enumerate(keys.operators)
    ]
    records.append(_operator(keys.optout, "optout", "trusted", ("OPTOUT_SERVICE",), seconds, draw))
    write_store(directory, "operators", "operators", records, seconds)
    enclave = {
        "name": "development stack",
        "protocol": "azure-sgx",
        "identifier": ENCLAVE.mr_enclave.hex(),
        "created": seconds,
    }
    write_store(directory, "enclaves", "enclaves", [enclave], seconds)
    cloud_key = {
        "id": 1,
        "siteId": int(OPERATOR_SITE),
        "activates": seconds,
        "created": seconds,
        "secret": encode_base64(draw(32)),
    }
    write_store(directory, "cloud_encryption_keys", "cloud_encryption_keys", [cloud_key], seconds)
    write_store(directory, "partners", "partners", [], seconds)
    return keys


def register_enclave(stores: Path, record: Path, now: EpochMillis) -> None:
    """Let Core of this stack accept the enclave of a build's identity record, beside those that it knows."""
    try:
        built = msgspec.json.decode(record.read_bytes())
        identifier = str(built["mr_enclave"]).lower()
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        raise ConfigurationError(
            f"{record} is no identity record", next_step="name the identity.json of a build"
        ) from None
    file = stores / "enclaves" / "enclaves.json"
    known = msgspec.json.decode(file.read_bytes())
    if any(entry["identifier"] == identifier for entry in known):
        return
    enclave = {"name": "built enclave", "protocol": "azure-sgx", "identifier": identifier, "created": now // 1000}
    write_store(stores, "enclaves", "enclaves", [*known, enclave], now // 1000)


def create_jwt_key() -> bytes:
    """A new RSA key, PKCS#8 in PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=JWT_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_half(pem: bytes) -> str:
    """SubjectPublicKeyInfo of a JWT key, base64."""
    return encode_base64(public_der(load_rsa_private_key(pem)))


def _operator(
    key: str, name: str, protocol: str, roles: tuple[str, ...], created: int, draw: Draw
) -> dict[str, object]:
    salt = draw(32)
    return {
        "name": name,
        "contact": name,
        "protocol": protocol,
        "created": created,
        "disabled": False,
        "roles": list(roles),
        "site_id": int(OPERATOR_SITE),
        "operator_type": "PUBLIC",
        "key_hash": hash_key(key, salt),
        "key_salt": encode_base64(salt),
        "key_id": key[: key.index(".") - 1],
    }
