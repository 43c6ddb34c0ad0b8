import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.crypto import cbc
from uid2.protocol.crypto.aead import OVERHEAD, GcmKey
from uid2.protocol.crypto.ecdh import load_private_key, load_public_key, shared_secret
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import InternalTokenError

KEY = bytes(range(32))


@given(st.binary(max_size=200), st.binary(min_size=12, max_size=12), st.none() | st.binary(max_size=20))
def test_gcm_round_trip(plaintext: bytes, iv: bytes, aad: bytes | None) -> None:
    blob = GcmKey(KEY).seal(iv, plaintext, aad)
    assert len(blob) == len(plaintext) + OVERHEAD
    assert blob[:12] == iv
    assert GcmKey(KEY).open(blob, aad) == plaintext


def test_gcm_known_answer() -> None:
    # NIST test case 14: zero key, zero nonce, one zero block.
    blob = GcmKey(bytes(32)).seal(bytes(12), bytes(16))
    assert blob[12:].hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def test_gcm_refuses_every_bit_flip_and_truncation() -> None:
    key = GcmKey(KEY)
    blob = key.seal(bytes(12), b"some content", b"context")
    damaged = [blob[:size] for size in range(len(blob))]
    damaged += [
        blob[:at] + bytes((blob[at] ^ 1 << bit,)) + blob[at + 1 :] for at in range(len(blob)) for bit in range(8)
    ]
    for bad in damaged:
        with pytest.raises(InternalTokenError, match=r"^Unable to Decrypt$"):
            key.open(bad, b"context")
    with pytest.raises(InternalTokenError):
        key.open(blob, b"other context")
    with pytest.raises(InternalTokenError):
        key.open(blob)


@pytest.mark.parametrize("size", [0, 15, 31, 33])
def test_gcm_refuses_odd_keys(size: int) -> None:
    with pytest.raises(ValueError, match="AES key"):
        GcmKey(bytes(size))


def test_gcm_refuses_odd_nonces() -> None:
    with pytest.raises(ValueError, match="nonce"):
        GcmKey(KEY).seal(bytes(16), b"")


@given(st.binary(max_size=100), st.binary(min_size=16, max_size=16))
def test_cbc_round_trip(plaintext: bytes, iv: bytes) -> None:
    blob = cbc.encrypt(KEY, iv, plaintext)
    assert len(blob) == 16 + 16 * (len(plaintext) // 16 + 1)
    assert cbc.decrypt(KEY, blob) == plaintext


def test_cbc_refuses_bad_lengths_and_padding() -> None:
    blob = cbc.encrypt(KEY, bytes(16), b"x" * 20)
    # Whole blocks less: the cut text no longer ends in padding; odd lengths never decrypt.
    for size in range(len(blob)):
        with pytest.raises(InternalTokenError, match=r"^Unable to Decrypt$"):
            cbc.decrypt(KEY, blob[:size])


def test_private_key_without_public_point_loads() -> None:
    short = load_private_key(
        decode_base64("MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCDsqxZicsGytVqN2HZqNDHtV422Lxio8m1vlflq4Jb47Q==")
    )
    public = load_public_key(
        decode_base64(
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtXJdTSZAYHvoRDWiehMHoWF1BNPuqLs5w2ZHiAZ1IJc7O4/z0ojPTB0V+KYX/wxQK0hxx6kx"
            "CvHj335eI/ZQsQ=="
        )
    )
    assert shared_secret(short, public) == decode_base64("uB89QzhyC2QSZVAlcQqElgYwepmegFl9bRRYQGZ+GYg=")


def test_other_curves_and_garbage_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ValueError, match="P-256 private"):
        load_private_key(other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="P-256 public"):
        load_public_key(other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for load in (load_private_key, load_public_key):
        with pytest.raises(ValueError, match="not a"):
            load(b"\x30\x03\x02\x01\x00")
        with pytest.raises(ValueError, match="not a"):
            load(b"")


def test_point_outside_the_curve_is_refused() -> None:
    good = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = bytearray(good.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    der[-1] ^= 1
    with pytest.raises(ValueError, match="not a"):
        load_public_key(bytes(der))
