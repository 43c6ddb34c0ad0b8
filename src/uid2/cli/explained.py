"""Rows that explain tokens and envelopes, shared by `uid2 token` and `uid2 inspect`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from uid2.cli.layout import distance, moment

if TYPE_CHECKING:
    from uid2.protocol.ids import IdentityScope, IdentityType, KeyId, RawUid
    from uid2.protocol.keysets import KeysetKey
    from uid2.protocol.tokens.advertising import AdvertisingToken
    from uid2.protocol.tokens.refresh import RefreshToken

Rows = list[tuple[str, object]]
Sections = list[tuple[str, Rows]]

_VERSIONS: Final = {2: "2", 112: "3", 128: "4"}
_OVERHEAD: Final = 28  # IV and tag of GCM


def advertising_token_sections(text: str, find_key: "Callable[[KeyId], KeysetKey | None] | None") -> Sections:
    """Header fields of a token and, with keys, its content; ClientInputError when it is none."""
    from uid2.protocol.tokens.advertising import open_advertising_token

    data = _token_bytes(text)
    header: Rows = [("length", f"{len(text)} characters, {len(data)} bytes")]
    if data[0] == 2:
        header += [
            ("byte 0", "2: version 2"),
            ("bytes 1-4", f"master key {int.from_bytes(data[1:5], 'big', signed=True)}"),
            ("bytes 5-20", "IV"),
            ("bytes 21-", f"{len(data) - 21} bytes, AES-CBC under the master key"),
        ]
    else:
        header += [
            *_header_rows(data, ("master key", 2)),
            ("bytes 6-17", "IV"),
            ("bytes 18-", f"{len(data) - 18} bytes, AES-GCM under the master key"),
        ]
    sections: Sections = [("Advertising token", header)]
    if find_key is None:
        sections.append(("content", [("(encrypted)", "give --keys or --state to open it")]))
    else:
        sections.append(("content", token_rows(open_advertising_token(text, find_key))))
    return sections


def refresh_token_sections(text: str, find_key: "Callable[[KeyId], KeysetKey | None] | None") -> Sections:
    """A wrapped refresh token with the token inside it, or a bare one."""
    from uid2.protocol.tokens.refresh import open_refresh_token
    from uid2.protocol.tokens.wrapped import WRAPPED_LENGTH, open_wrapped_token

    data = _token_bytes(text)
    sections: Sections = []
    inner: str | None = text
    if len(text) == WRAPPED_LENGTH:
        wrapper: Rows = [
            ("length", f"{WRAPPED_LENGTH} characters, {len(data)} bytes: the wrapped form"),
            ("byte 0", f"0x{data[0]:02x}: scope {'EUID' if data[0] & 0x10 else 'UID2'}"),
            ("bytes 1-4", f"refresh key {int.from_bytes(data[1:5], 'big', signed=True)}"),
            ("bytes 5-16", "IV"),
            ("bytes 17-", f"{len(data) - 17} bytes, AES-GCM: response key and refresh token"),
        ]
        sections.append(("Wrapped refresh token", wrapper))
        inner = None if find_key is None else open_wrapped_token(text, find_key).refresh_token
    if inner is not None:
        inner_data = _token_bytes(inner)
        rows = [("length", f"{len(inner)} characters, {len(inner_data)} bytes")]
        sections.append(("Refresh token", [*rows, *_header_rows(inner_data, ("refresh key", 2))]))
    if find_key is None:
        sections.append(("content", [("(encrypted)", "give --keys or --state to open it")]))
    else:
        sections.append(("content", refresh_rows(open_refresh_token(inner, find_key))))
    return sections


def envelope_sections(text: str, secret: str | None, *, response: bool) -> Sections:
    """A request or response envelope; with the secret its time, nonce and document."""
    from uid2.protocol.crypto.aead import GcmKey
    from uid2.protocol.encoding import decode_base64
    from uid2.protocol.envelope import open_response
    from uid2.protocol.errors import ClientInputError, ConfigurationError

    try:
        data = decode_base64(text)
    except ValueError:
        raise ClientInputError("this is not base64", next_step="give the body exactly as it was sent") from None
    head = 0 if response else 1
    if len(data) < head + _OVERHEAD + 16:
        raise ClientInputError(f"{len(data)} bytes are too short for an envelope") from None
    if not response and data[0] != 1:
        raise ClientInputError(f"the first byte is {data[0]}, not 1", next_step="an answer needs --response")
    rows: Rows = [] if response else [("byte 0", "1: version of the envelope")]
    rows += [
        (f"bytes {head}-{head + 11}", "IV"),
        (f"bytes {head + 12}-", f"{len(data) - head - _OVERHEAD} bytes of ciphertext, then a tag of 16"),
    ]
    sections: Sections = [("Response envelope" if response else "Request envelope", rows)]
    if secret is None:
        return [*sections, ("content", [("(encrypted)", "give --secret to open it")])]
    try:
        key = GcmKey(decode_base64(secret))
    except ValueError:
        raise ConfigurationError("the client secret is not base64 of 32 bytes") from None
    # without its version byte a request has the layout of a response
    opened = open_response(data[head:], key)
    content: Rows = [
        ("time", f"{moment(opened.timestamp)}  ({distance(opened.timestamp)})"),
        ("nonce", opened.nonce.hex()),
        ("document", opened.payload.decode("utf-8", "replace") or "(none)"),
    ]
    return [*sections, ("content", content)]


def token_rows(token: "AdvertisingToken") -> Rows:
    from uid2.protocol.encoding import encode_base64

    return [
        ("raw UID", f"{encode_base64(token.raw_uid)}  ({raw_uid_kind(token.raw_uid)})"),
        ("token version", _VERSIONS[token.version]),
        ("publisher site", token.publisher.site_id),
        ("keys", f"master {token.master_key_id}, site {token.site_key_id}"),
        ("privacy bits", privacy(token.privacy_bits)),
        ("first generated", moment(token.established)),
        ("generated", moment(token.created)),
        ("expires", f"{moment(token.expires)}  ({distance(token.expires)})"),
    ]


def refresh_rows(token: "RefreshToken") -> Rows:
    return [
        ("identity", identity_name(token.scope, token.identity_type)),
        ("first-level hash", f"{len(token.first_level_hash)} bytes, not shown"),
        ("publisher site", token.publisher.site_id),
        ("privacy bits", privacy(token.privacy_bits)),
        ("first generated", moment(token.established)),
        ("generated", moment(token.created)),
        ("expires", f"{moment(token.expires)}  ({distance(token.expires)})"),
    ]


def identity_name(scope: "IdentityScope", kind: "IdentityType") -> str:
    return f"{scope.name} {'e-mail' if kind.name == 'EMAIL' else 'phone'}"


def raw_uid_kind(raw_uid: "RawUid") -> str:
    """32 bytes say nothing about themselves; 33 begin with a byte that names scope, type and version."""
    from uid2.protocol.identity import scope_of, type_of

    if len(raw_uid) == 32:
        return "version 2, 32 bytes"
    version = "4" if raw_uid[0] & 0x20 else "3"
    return f"version {version}, {identity_name(scope_of(raw_uid[0]), type_of(raw_uid[0]))}, {len(raw_uid)} bytes"


def privacy(bits: int) -> str:
    """The bits with their names (tokens chapter, 8.4)."""
    names = [
        name for bit, name in ((1, "legacy"), (2, "client-side generated"), (4, "client-side opt-out")) if bits & bit
    ]
    return f"{bits} ({', '.join(names)})" if names else str(bits)


def _header_rows(data: bytes, key: tuple[str, int]) -> Rows:
    from uid2.protocol.identity import scope_of, type_of

    name, at = key
    version = _VERSIONS.get(data[1], "unknown") if len(data) > 1 else "missing"
    return [
        ("byte 0", f"0x{data[0]:02x}: {identity_name(scope_of(data[0]), type_of(data[0]))}"),
        ("byte 1", f"{data[1]}: version {version}" if len(data) > 1 else "missing"),
        (f"bytes {at}-{at + 3}", f"{name} {int.from_bytes(data[at : at + 4], 'big', signed=True)}"),
    ]


def _token_bytes(text: str) -> bytes:
    from uid2.protocol.encoding import decode_base64, decode_base64url
    from uid2.protocol.errors import ClientInputError

    decode = decode_base64url if "-" in text or "_" in text or not text.endswith("=") else decode_base64
    for attempt in (decode, decode_base64):
        try:
            data = attempt(text)
        except ValueError:
            continue
        if len(data) >= 18:
            return data
    raise ClientInputError("this is not a token", next_step="give the text exactly as it was received")
