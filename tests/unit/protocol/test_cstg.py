import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.crypto.ecdh import shared_secret
from uid2.protocol.cstg import (
    CstgRequest,
    additional_data,
    load_client_public_key,
    load_server_private_key,
    load_server_public_key,
    open_cstg_payload,
    open_cstg_request,
    parse_cstg_request,
    seal_cstg_payload,
    seal_cstg_response,
)
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tokens.json").read_text())["cstg"]["vectors"]
SERVER = load_server_private_key(VECTORS[0]["server_private_key"])
GOOD: dict[str, Any] = VECTORS[0]["request"]
KEY, IV = GcmKey(bytes(32)), encode_base64(bytes(12))


def _refusal(**changes: object) -> str:
    with pytest.raises(ClientInputError) as caught:
        open_cstg_request(parse_cstg_request(json.dumps(GOOD | changes).encode()), SERVER)
    return caught.value.message


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["aad"])
def test_vector(vector: dict[str, Any]) -> None:
    request = parse_cstg_request(json.dumps(vector["request"]).encode())
    assert additional_data(request.timestamp, request.app_name).decode() == vector["aad"]
    server = load_server_private_key(vector["server_private_key"])
    assert request.public_key is not None
    shared = shared_secret(server, load_client_public_key(request.public_key))
    assert shared.hex() == vector["shared_secret_hex"]
    assert server.public_key() == load_server_public_key(vector["server_public_key"])
    opened = open_cstg_request(request, server)
    assert opened.document == json.loads(vector["plaintext"])
    iv = decode_base64(vector["request"]["iv"])
    sealed = seal_cstg_payload(vector["plaintext"].encode(), iv, opened.key, request.timestamp, request.app_name)
    assert sealed == vector["request"]["payload"]
    answer = vector["response"]
    assert (
        seal_cstg_response(answer["plaintext"].encode(), opened.key, bytes.fromhex(answer["iv_hex"]))
        == answer["body_b64"]
    )


@pytest.mark.parametrize(
    ("app_name", "expected"),
    [
        (None, "[0]"),
        ("", '[0,""]'),
        ("com.123.Game.App.android", '[0,"com.123.Game.App.android"]'),
        ('a"b\\c/d\n', '[0,"a\\"b\\\\c/d\\n"]'),
        ("ünïcode😊", '[0,"ünïcode😊"]'),
    ],
)
def test_additional_data(app_name: str | None, expected: str) -> None:
    assert additional_data(0, app_name) == expected.encode()


@pytest.mark.parametrize(
    ("members", "request_"),
    [
        ("{}", CstgRequest(None, None, 0, None, None, None)),
        ('{"timestamp":null,"app_name":null,"iv":""}', CstgRequest(None, None, 0, "", None, None)),
        ('{"subscription_id":12,"app_name":"","payload":true}', CstgRequest("12", None, 0, None, "true", "")),
        ('{"timestamp":1.9}', CstgRequest(None, None, 1, None, None, None)),
        ('{"timestamp":" -17 "}', CstgRequest(None, None, -17, None, None, None)),
        ('{"timestamp":""}', CstgRequest(None, None, 0, None, None, None)),
        ('/* c */{"timestamp":9223372036854775807}', CstgRequest(None, None, 2**63 - 1, None, None, None)),
    ],
)
def test_members(members: str, request_: CstgRequest) -> None:
    assert parse_cstg_request(members.encode()) == request_


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "json payload expected but not found"),
        (b"null", "json payload expected but not found"),
        (b"{", "json payload is not valid"),
        (b"\xff", "json payload is not valid"),
        (b"[]", "json payload is not valid: not an object"),
        (b"1", "json payload is not valid: not an object"),
        (b'{"more":1}', "json payload is not valid: unknown member"),
        (b'{"iv":[]}', "json payload is not valid: iv must be a string"),
        (b'{"app_name":{}}', "json payload is not valid: app_name must be a string"),
        *(
            (b'{"timestamp":%s}' % value, "json payload is not valid: timestamp must be an integer of milliseconds")
            for value in (
                b"true",
                b"[]",
                b'"x"',
                b'"1.5"',
                b'"+"',
                b"9223372036854775808",
                b"1e300",
                b'"' + b"9" * 5000 + b'"',
            )
        ),
    ],
)
def test_unusable_outer_json(body: bytes, text: str) -> None:
    with pytest.raises(ClientInputError) as caught:
        parse_cstg_request(body)
    assert caught.value.message == text


def test_refusals_in_their_order() -> None:
    for name in ("payload", "iv", "public_key"):
        assert _refusal(**{name: None}) == "required parameters: payload, iv, public_key"
    other_curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    der = encode_base64(other_curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for key in ("", "***", "AAAA", der):
        assert _refusal(public_key=key, iv="bad") == "bad public key"
    for iv in ("", "***", encode_base64(bytes(11)), encode_base64(bytes(13))):
        assert _refusal(iv=iv, payload="***") == "bad iv"
    for payload in ("", "***", "AAAA", encode_base64(bytes(60))):
        assert _refusal(payload=payload) == "payload decryption failed"
    assert _refusal(timestamp=GOOD["timestamp"] + 1) == "payload decryption failed"
    assert _refusal(app_name="") == "payload decryption failed"


@pytest.mark.parametrize("plaintext", [b"", b"[]", b"null", b"{", b"\xff"])
def test_content_must_be_an_object(plaintext: bytes) -> None:
    sealed = seal_cstg_payload(plaintext, bytes(12), KEY, 5, None)
    with pytest.raises(ClientInputError, match=r"^encrypted payload contains invalid json$"):
        open_cstg_payload(sealed, IV, KEY, 5, None)


@given(st.dictionaries(st.text(), st.text()), st.integers(-(2**63), 2**63 - 1), st.none() | st.text())
def test_round_trip(document: dict[str, str], timestamp: int, app_name: str | None) -> None:
    sealed = seal_cstg_payload(json.dumps(document).encode(), bytes(12), KEY, timestamp, app_name)
    assert open_cstg_payload(sealed, IV, KEY, timestamp, app_name) == document


def test_every_bit_flip_and_truncation_is_refused() -> None:
    sealed = decode_base64(seal_cstg_payload(b"{}", bytes(12), KEY, 0, None))
    damaged = [sealed[:size] for size in range(len(sealed))]
    damaged += [
        sealed[: bit // 8] + bytes((sealed[bit // 8] ^ 1 << bit % 8,)) + sealed[bit // 8 + 1 :]
        for bit in range(len(sealed) * 8)
    ]
    for bad in damaged:
        with pytest.raises(ClientInputError, match=r"^payload decryption failed$"):
            open_cstg_payload(encode_base64(bad), IV, KEY, 0, None)


@pytest.mark.parametrize("text", ["", "UID2-Y-L-", "UID2-Y-L-***", "UID2-Y-L-AAAA"])
def test_malformed_stored_keys_are_value_errors(text: str) -> None:
    for load in (load_server_private_key, load_server_public_key):
        with pytest.raises(ValueError, match="not "):
            load(text)
