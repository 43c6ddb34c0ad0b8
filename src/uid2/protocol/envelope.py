"""The encrypted request and response of the v2 API (operator chapter, section 4).

Request     0         1    13           13 + n      29 + n
            ├ 1 ┼ IV ┼ ciphertext ┼ tag ┤                    key: the client's secret
Response    0    12           12 + n      28 + n
            ├ IV ┼ ciphertext ┼ tag ┤                        the same key
Plaintext   0      8       16
of both     ├ time ┼ nonce ┼ JSON object, may be empty ┤     time: signed 64-bit epoch milliseconds
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

from uid2.protocol.crypto.aead import OVERHEAD, GcmKey
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import EnvelopeError, InternalTokenError
from uid2.protocol.ids import EpochMillis, IdentityScope
from uid2.protocol.json_text import parse_object

VERSION: Final = 1
NONCE_LENGTH: Final = 8
MINIMUM_LENGTH: Final = 1 + OVERHEAD + 8 + NONCE_LENGTH

_TIME: Final = Struct(">q")
_HEAD_LENGTH: Final = _TIME.size + NONCE_LENGTH
_GUIDES: Final = {
    IdentityScope.UID2: "https://unifiedid.com/docs/getting-started/gs-encryption-decryption",
    IdentityScope.EUID: "https://euid.eu/docs/getting-started/gs-encryption-decryption",
}
_MISSING: Final = "Invalid body: Body is missing."


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """`binary`: whether the answer goes out as bytes. The payload is not yet known to be JSON."""

    timestamp: EpochMillis
    nonce: bytes
    payload: bytes = field(repr=False)
    binary: bool

    def document(self) -> dict[str, Any] | None:
        """The JSON object of the payload, None when there is no payload; EnvelopeError when it is not an object."""
        if not self.payload:
            return None
        try:
            return parse_object(self.payload)
        except ValueError:
            raise EnvelopeError("Invalid payload in body: Data is not valid json string.") from None


@dataclass(frozen=True, slots=True)
class OpenedResponse:
    timestamp: EpochMillis
    nonce: bytes
    payload: bytes = field(repr=False)


def open_request(body: bytes, binary: bool, key: GcmKey, now: EpochMillis, scope: IdentityScope) -> OpenedRequest:
    """Opens a request body; EnvelopeError with the first text of 4.5 that applies.

    A binary body that is no envelope but base64 is read, and answered, as text (4.4).
    """
    if not body:
        raise EnvelopeError(_MISSING)
    if not binary:
        return _open_envelope(_decoded_text(body, scope), False, key, now, scope)
    try:
        return _open_envelope(body, True, key, now, scope)
    except EnvelopeError:
        try:
            data = decode_base64(body)
        except ValueError:
            data = None
        if data is None:
            raise
    return _open_envelope(data, False, key, now, scope)


def seal_request(payload: bytes, nonce: bytes, now: EpochMillis, key: GcmKey, iv: bytes) -> bytes:
    """The bytes of a request envelope."""
    return bytes((VERSION,)) + key.seal(iv, _TIME.pack(now) + _checked_nonce(nonce) + payload)


def seal_response(payload: bytes, nonce: bytes, now: EpochMillis, key: GcmKey, iv: bytes) -> bytes:
    """The bytes of a response envelope."""
    return key.seal(iv, _TIME.pack(now) + _checked_nonce(nonce) + payload)


def open_response(blob: bytes, key: GcmKey) -> OpenedResponse:
    """Opens the bytes of a response; the caller compares the nonce. InternalTokenError when short or not authentic."""
    plaintext = key.open(blob)
    if len(plaintext) < _HEAD_LENGTH:
        raise InternalTokenError("the response envelope is too short")
    (timestamp,) = _TIME.unpack_from(plaintext)
    return OpenedResponse(EpochMillis(timestamp), plaintext[_TIME.size : _HEAD_LENGTH], plaintext[_HEAD_LENGTH:])


def is_timely(timestamp: EpochMillis, now: EpochMillis) -> bool:
    """Whether the age, in whole minutes toward zero of whole seconds toward minus infinity, is at most 1 (4.3)."""
    return -119 <= (now - timestamp) // 1000 <= 119


def _decoded_text(body: bytes, scope: IdentityScope) -> bytes:
    try:
        return decode_base64(body)
    except ValueError:
        if _is_json_object(body):
            raise _unencrypted(scope) from None
        raise _with_hint("Invalid body: Body is not valid base64.", scope) from None


def _open_envelope(data: bytes, binary: bool, key: GcmKey, now: EpochMillis, scope: IdentityScope) -> OpenedRequest:
    if not data:
        raise EnvelopeError(_MISSING)
    if len(data) < MINIMUM_LENGTH:
        if _is_json_object(data):
            raise _unencrypted(scope)
        raise _with_hint("Invalid body: Body too short. Check encryption method.", scope)
    if data[0] != VERSION:
        if _is_json_object(data):
            raise _unencrypted(scope)
        text = f"Invalid body: Invalid request envelope format version: received {data[0]}, must be {VERSION}."
        raise _with_hint(text, scope)
    try:
        plaintext = key.open(memoryview(data)[1:])
    except InternalTokenError:
        raise _with_hint("Invalid body: Check encryption key (ClientSecret).", scope) from None
    (timestamp,) = _TIME.unpack_from(plaintext)
    if not is_timely(timestamp, now):
        raise EnvelopeError("Invalid timestamp: Request too old or client time drift.")
    return OpenedRequest(EpochMillis(timestamp), plaintext[_TIME.size : _HEAD_LENGTH], plaintext[_HEAD_LENGTH:], binary)


def _is_json_object(data: bytes) -> bool:
    try:
        parse_object(data)
    except ValueError:
        return False
    return True


def _with_hint(text: str, scope: IdentityScope) -> EnvelopeError:
    return EnvelopeError(f"{text} See {_GUIDES[scope]} for details on the request envelope format.")


def _unencrypted(scope: IdentityScope) -> EnvelopeError:
    return EnvelopeError(
        "Invalid body: The request body is unencrypted JSON. It must be an encrypted request envelope. See "
        f"{_GUIDES[scope]}#encryption-and-decryption-code-examples for encryption and decryption code examples."
    )


def _checked_nonce(nonce: bytes) -> bytes:
    if len(nonce) != NONCE_LENGTH:
        raise ValueError(f"an envelope nonce has {NONCE_LENGTH} bytes, not {len(nonce)}")
    return nonce
