"""Client-side token generation: the sealed request of a browser or app (operator chapter, section 9).

`payload` is base64 of `ciphertext ‖ tag`, `iv` travels beside it; the key is the P-256 shared secret as it is.
The response is `IV ‖ ciphertext ‖ tag` under the same key, without additional data.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from uid2.protocol.crypto.aead import IV_LENGTH, GcmKey
from uid2.protocol.crypto.ecdh import load_private_key, load_public_key, shared_secret
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import ClientInputError, InternalTokenError
from uid2.protocol.json_text import parse_object, parse_value, text_of

KEY_PREFIX_LENGTH: Final = 9

T = TypeVar("T")

_INT64: Final = range(-(2**63), 2**63)
_TEXT_MEMBERS: Final = ("subscription_id", "public_key", "iv", "payload", "app_name")
_MEMBERS: Final = frozenset((*_TEXT_MEMBERS, "timestamp"))
_NOT_VALID: Final = "json payload is not valid"


@dataclass(frozen=True, slots=True)
class CstgRequest:
    """The outer request. None: absent or JSON null; an empty text counts as present."""

    subscription_id: str | None
    public_key: str | None = field(repr=False)
    timestamp: int
    iv: str | None = field(repr=False)
    payload: str | None = field(repr=False)
    app_name: str | None


@dataclass(frozen=True, slots=True)
class OpenedCstgRequest:
    """`key` seals the response; `document` is the payload's JSON object."""

    key: GcmKey = field(repr=False)
    document: dict[str, Any] = field(repr=False)


def parse_cstg_request(data: bytes) -> CstgRequest:
    """The outer JSON. ClientInputError: no body or null, not JSON, not an object, unknown or unusable members."""
    if not data:
        raise ClientInputError("json payload expected but not found")
    try:
        members = parse_value(data)
    except ValueError:
        raise ClientInputError(_NOT_VALID) from None
    if members is None:
        raise ClientInputError("json payload expected but not found")
    if not isinstance(members, dict):
        raise ClientInputError(f"{_NOT_VALID}: not an object")
    if not members.keys() <= _MEMBERS:
        raise ClientInputError(f"{_NOT_VALID}: unknown member")
    subscription_id, public_key, iv, payload, app_name = (_text(members, name) for name in _TEXT_MEMBERS)
    return CstgRequest(subscription_id, public_key, _timestamp(members.get("timestamp")), iv, payload, app_name)


def additional_data(timestamp: int, app_name: str | None) -> bytes:
    """The compact JSON array `[timestamp]` or `[timestamp,"app_name"]`."""
    parts: list[int | str] = [timestamp] if app_name is None else [timestamp, app_name]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()


def load_server_private_key(text: str) -> EllipticCurvePrivateKey:
    """The key of a stored text: nine characters of prefix, base64 of PKCS#8. ValueError when it is none."""
    return load_private_key(decode_base64(text[KEY_PREFIX_LENGTH:]))


def load_server_public_key(text: str) -> EllipticCurvePublicKey:
    """The key of a published text: nine characters of prefix, base64 of SubjectPublicKeyInfo."""
    return load_public_key(decode_base64(text[KEY_PREFIX_LENGTH:]))


def load_client_public_key(text: str) -> EllipticCurvePublicKey:
    """The caller's ephemeral key, base64 without a prefix; ClientInputError when it is not one of P-256."""
    return _or_refuse("bad public key", lambda: load_public_key(decode_base64(text)))


def open_cstg_request(request: CstgRequest, private_key: EllipticCurvePrivateKey) -> OpenedCstgRequest:
    """Rows 8 to 12 of 9.4 in their order; ClientInputError with the text of the first that applies."""
    if request.payload is None or request.iv is None or request.public_key is None:
        raise ClientInputError("required parameters: payload, iv, public_key")
    public_key = load_client_public_key(request.public_key)
    key = GcmKey(_or_refuse("bad public key", lambda: shared_secret(private_key, public_key)))
    document = open_cstg_payload(request.payload, request.iv, key, request.timestamp, request.app_name)
    return OpenedCstgRequest(key, document)


def open_cstg_payload(payload: str, iv: str, key: GcmKey, timestamp: int, app_name: str | None) -> dict[str, Any]:
    """The JSON object inside; ClientInputError with the text of rows 10 to 12."""
    nonce = _or_refuse("bad iv", lambda: decode_base64(iv))
    if len(nonce) != IV_LENGTH:
        raise ClientInputError("bad iv")
    sealed = _or_refuse("payload decryption failed", lambda: decode_base64(payload))
    try:
        plaintext = key.open(nonce + sealed, additional_data(timestamp, app_name))
    except InternalTokenError:
        raise ClientInputError("payload decryption failed") from None
    return _or_refuse("encrypted payload contains invalid json", lambda: parse_object(plaintext))


def seal_cstg_payload(payload: bytes, iv: bytes, key: GcmKey, timestamp: int, app_name: str | None) -> str:
    """The caller's side: the `payload` member for these bytes."""
    return encode_base64(key.seal(iv, payload, additional_data(timestamp, app_name))[IV_LENGTH:])


def seal_cstg_response(payload: bytes, key: GcmKey, iv: bytes) -> str:
    """The body of a 200 answer: base64 of `IV ‖ ciphertext ‖ tag`."""
    return encode_base64(key.seal(iv, payload))


def _or_refuse(text: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except ValueError:
        raise ClientInputError(text) from None


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if isinstance(value, (dict, list)):
        raise ClientInputError(f"{_NOT_VALID}: {name} must be a string")
    return None if value is None else text_of(value)


def _timestamp(value: object) -> int:
    """Absent and null count as 0; fractions are dropped, decimal text is read."""
    number: int | None = None
    match value:
        case None:
            number = 0
        case bool():
            pass
        case int() | float():
            number = int(value)
        case str():
            number = _integer_text(value.strip())
    if number is None or number not in _INT64:
        raise ClientInputError(f"{_NOT_VALID}: timestamp must be an integer of milliseconds")
    return number


def _integer_text(text: str) -> int | None:
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
