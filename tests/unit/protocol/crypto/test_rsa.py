import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from uid2.protocol.crypto.rsa import load_rsa_private_key, load_rsa_public_key, public_der, unwrap, wrap
from uid2.protocol.encoding import decode_base64

VECTORS = Path(__file__).parents[3] / "vectors/stores"
VECTOR: dict[str, Any] = json.loads((VECTORS / "attestation/vectors.json").read_text())["attestation_token_wrapping"]
PRIVATE = load_rsa_private_key(decode_base64(VECTOR["private_key_pkcs8_b64"]))
PUBLIC = decode_base64(VECTOR["public_key_b64"])


def test_the_wrapping_of_the_vectors() -> None:
    assert public_der(PRIVATE) == PUBLIC
    assert unwrap(PRIVATE, decode_base64(VECTOR["wrapped_b64"])).decode() == VECTOR["unwrapped"]


@pytest.mark.parametrize("length", [0, 1, 163, 245])
def test_round_trip(length: int) -> None:
    assert unwrap(PRIVATE, wrap(PUBLIC, b"t" * length)) == b"t" * length


def test_a_text_too_long_for_the_key_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        wrap(PUBLIC, b"t" * 246)


@pytest.mark.parametrize("key", [b"", b"no key", PUBLIC[:-1], b"\x30\x00"])
def test_unusable_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        load_rsa_public_key(key)


def test_a_key_of_1024_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="1024 bits"):
        load_rsa_public_key(public_der(rsa.generate_private_key(65537, 1024)))


def test_a_key_of_another_kind_is_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="not an RSA public key"):
        load_rsa_public_key(curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def test_a_ciphertext_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="not made for this key"):
        unwrap(PRIVATE, b"\0" * 255)


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\x30\x00"])
def test_private_keys_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="private key"):
        load_rsa_private_key(data)
