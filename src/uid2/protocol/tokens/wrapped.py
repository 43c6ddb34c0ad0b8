"""The form of a refresh token that callers hold (tokens chapter, 10.4): it carries the key of the next answer.

    0            1                5
    ├ scope << 4 ┼ refresh key id ┼ GCM of {"refresh_response_key":…,"refresh_token":…} ┤

291 bytes, standard base64, exactly 388 characters; any other length is an unwrapped refresh token.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import msgspec

from uid2.protocol.crypto.aead import KEY_LENGTHS
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import EnvelopeError, InternalTokenError
from uid2.protocol.ids import IdentityScope, KeyId
from uid2.protocol.json_text import parse_object, text_of
from uid2.protocol.keysets import KeyRing, KeysetKey
from uid2.protocol.tokens.fields import KeyLookup

WRAPPED_LENGTH: Final = 388

_OUTER: Final = Struct(">Bi")
_BAD_FORMAT: Final = "Invalid format: Payload is not valid json or missing required data."


@dataclass(frozen=True, slots=True)
class WrappedRefreshToken:
    """`refresh_token` is None when the payload has none."""

    response_key: bytes = field(repr=False)
    refresh_token: str | None = field(repr=False)


def wrap_refresh_token(refresh_token: str, response_key: bytes, scope: IdentityScope, key: KeysetKey, iv: bytes) -> str:
    """The wrapped text; InternalTokenError when it is not 388 characters long."""
    payload = msgspec.json.encode({"refresh_response_key": encode_base64(response_key), "refresh_token": refresh_token})
    text = encode_base64(_OUTER.pack(scope << 4, key.id) + key.gcm.seal(iv, payload))
    if len(text) != WRAPPED_LENGTH:
        raise InternalTokenError(f"Generated refresh token's length={len(text)} is not equal to={WRAPPED_LENGTH}")
    return text


def unwrap_refresh_token(text: str, key_ring: KeyRing) -> WrappedRefreshToken:
    """The content under the keys of the ring; errors as `open_wrapped_token`."""
    return open_wrapped_token(text, key_ring.key)


def open_wrapped_token(text: str, find_key: KeyLookup) -> WrappedRefreshToken:
    """The content, with the key found by id; EnvelopeError with the text of section 15 for anything wrong."""
    try:
        data = decode_base64(text)
    except ValueError:
        raise EnvelopeError("Invalid body: Body is not valid base64.") from None
    if len(data) < _OUTER.size:
        raise EnvelopeError("Invalid data: Check encryption method and encryption key.")
    _, key_id = _OUTER.unpack_from(data)
    key = find_key(KeyId(key_id))
    if key is None:
        raise EnvelopeError(f"Invalid key: Generator of this token (Key ID: {key_id}) does not exist.")
    try:
        payload = key.gcm.open(data[_OUTER.size :])
    except InternalTokenError:
        raise EnvelopeError("Invalid data: Check encryption method and encryption key.") from None
    return _content(payload)


def _content(payload: bytes) -> WrappedRefreshToken:
    try:
        members = parse_object(payload)
        response_key = decode_base64(text_of(members["refresh_response_key"]))
    except (ValueError, KeyError):
        raise EnvelopeError(_BAD_FORMAT) from None
    # Holders of a site key can seal any payload: a key no cipher takes is their error, not ours.
    if len(response_key) not in KEY_LENGTHS:
        raise EnvelopeError(_BAD_FORMAT)
    token = members.get("refresh_token")
    return WrappedRefreshToken(response_key, None if token is None else text_of(token))
