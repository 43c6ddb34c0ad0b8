import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.attestation_token import (
    AttestationTokenError,
    derive_token_key,
    open_attestation_token,
    seal_attestation_token,
)
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import EpochSeconds

VECTOR = json.loads((Path(__file__).parents[2] / "vectors/stores/attestation/vectors.json").read_text())[
    "attestation_token"
]
KEY_TEXT, EXPIRES, NONCE = VECTOR["plaintext"].split(",")
KEY = derive_token_key(VECTOR["att_token_enc_key"], VECTOR["att_token_enc_salt"])
NOW = EpochSeconds(1_750_000_000)
SHORT = GcmKey(bytes(32))
IV = bytes(12)


def seal(text: str) -> str:
    sealed = SHORT.seal(IV, text.encode())
    return f"{encode_base64(sealed[12:])}-{encode_base64(IV)}-g"


def test_the_token_of_the_vectors() -> None:
    iv = decode_base64(VECTOR["iv_b64"])
    assert seal_attestation_token(KEY_TEXT, EpochSeconds(int(EXPIRES)), int(NONCE), KEY, iv) == VECTOR["token"]
    assert open_attestation_token(VECTOR["token"], KEY, KEY_TEXT, NOW) == int(EXPIRES)


@given(st.text(st.characters(codec="utf-8", exclude_characters=","), max_size=80), st.integers(-(2**63), 2**63 - 1))
def test_round_trip(operator_key: str, nonce: int) -> None:
    token = seal_attestation_token(operator_key, EpochSeconds(NOW + 1), nonce, SHORT, IV)
    assert open_attestation_token(token, SHORT, operator_key, NOW) == NOW + 1
    with pytest.raises(AttestationTokenError, match="expired"):
        open_attestation_token(token, SHORT, operator_key, EpochSeconds(NOW + 1))
    with pytest.raises(AttestationTokenError, match="another operator"):
        open_attestation_token(token, SHORT, operator_key + "x", NOW)


def test_every_truncation_and_every_flipped_bit_is_refused() -> None:
    token = VECTOR["token"]
    for length in range(len(token)):
        with pytest.raises(AttestationTokenError):
            open_attestation_token(token[:length], KEY, KEY_TEXT, NOW)
    body, iv, _ = token.split("-")
    for part, other in ((body, False), (iv, True)):
        data = decode_base64(part)
        for at in range(len(data)):
            changed = encode_base64(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            text = f"{body}-{changed}-g" if other else f"{changed}-{iv}-g"
            with pytest.raises(AttestationTokenError, match="not authentic"):
                open_attestation_token(text, KEY, KEY_TEXT, NOW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "another form"),
        ("a-b-c-g", "another form"),
        ("a-b-h", "another form"),
        ("%%%%-AAAA-g", "not base64"),
        ("AAAA-AAAA-g", "nonce has another length"),
        ("A" * 5000 + "-AAAA-g", "another form"),
        (seal("key"), "contents"),
        (seal("key,soon,1"), "contents"),
        (seal(f"key,{NOW + 9}"), "contents"),
    ],
)
def test_other_forms_are_refused(text: str, why: str) -> None:
    with pytest.raises(AttestationTokenError, match=why):
        open_attestation_token(text, SHORT, "key", NOW)
