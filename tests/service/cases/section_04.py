"""The envelope (section 4)."""

import json
from typing import Any

from case import Ask, Case, bare, call, compact, error, success
from stage import FULL_KEY, NONCE, Answer, Asked, Stage

from uid2.protocol.encoding import encode_base64
from uid2.protocol.envelope import seal_request
from uid2.protocol.ids import EpochMillis

PATH = "/v2/identity/map"
EMPTY = compact({"email": []})
NOTHING_MAPPED = success({"mapped": []})
GUIDE = "/docs/getting-started/gs-encryption-decryption"
HINT = f" See https://unifiedid.com{GUIDE} for details on the request envelope format."
JSON_TEXT = (
    "Invalid body: The request body is unencrypted JSON. It must be an encrypted request envelope. See "
    f"https://unifiedid.com{GUIDE}#encryption-and-decryption-code-examples "
    "for encryption and decryption code examples."
)
MISSING = error("Invalid body: Body is missing.")
NOT_BASE64 = error("Invalid body: Body is not valid base64." + HINT)
TOO_SHORT = error("Invalid body: Body too short. Check encryption method." + HINT)
WRONG_KEY = error("Invalid body: Check encryption key (ClientSecret)." + HINT)
UNTIMELY = error("Invalid timestamp: Request too old or client time drift.")
NO_JSON = error("Invalid payload in body: Data is not valid json string.")
UNENCRYPTED = error(JSON_TEXT)


def version(number: int) -> dict[str, str]:
    return error(f"Invalid body: Invalid request envelope format version: received {number}, must be 1." + HINT)


def envelope(stage: Stage, *, age: int = 0, payload: bytes = EMPTY) -> bytes:
    now = EpochMillis(stage.clock.now_ms() - age)
    return seal_request(payload, NONCE, now, stage.client(FULL_KEY).gcm, bytes(12))


def aged(age: int) -> Ask:
    def ask(stage: Stage) -> Asked:
        return send(stage, encode_base64(envelope(stage, age=age)).encode())

    return ask


def send(stage: Stage, body: bytes, content_type: str = "text/plain") -> Asked:
    headers = {"authorization": f"Bearer {FULL_KEY}", "content-type": content_type}
    return Asked("POST", PATH, headers, body, stage.client(FULL_KEY).gcm)


def octets(body: bytes) -> Ask:
    return lambda stage: send(stage, body, "Application/Octet-Stream")


def text(body: bytes) -> Ask:
    return lambda stage: send(stage, body)


def base64(body: bytes) -> Ask:
    return text(encode_base64(body).encode())


def altered(change: Any, *, binary: bool = False) -> Ask:
    """A good envelope after `change` of its bytes."""

    def ask(stage: Stage) -> Asked:
        data = change(envelope(stage))
        return send(stage, data, "application/octet-stream") if binary else send(stage, encode_base64(data).encode())

    return ask


def trailing_newline(stage: Stage) -> Asked:
    return send(stage, encode_base64(envelope(stage)).encode() + b"\n")


def base64_as_octets(stage: Stage) -> Asked:
    return send(stage, encode_base64(envelope(stage)).encode(), "application/octet-stream")


def parameterised(stage: Stage) -> Asked:
    return send(stage, envelope(stage), "application/octet-stream; charset=utf-8")


def utf16(stage: Stage) -> Asked:
    return send(stage, encode_base64(envelope(stage)).encode("utf-16"), "text/plain; charset=UTF-16")


def unpadded(stage: Stage) -> Asked:
    return send(stage, encode_base64(envelope(stage, payload=EMPTY + b" ")).rstrip("=").encode())


def answered_in(content_type: str) -> Any:
    def check(_: Stage, answer: Answer) -> None:
        assert answer.headers["content-type"] == content_type

    return check


def flip(place: int) -> Any:
    return lambda data: data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


def inner_token_works(stage: Stage, answer: Answer) -> None:
    for _ in range(2):
        body = answer.document["body"]
        assert "refresh_response_key" not in body
        assert len(body["refresh_token"]) == 168
        answer = stage.send(Asked("POST", "/v2/token/refresh", {}, body["refresh_token"].encode()))


GENERATE, PERSON = "/v2/token/generate", compact({"email": "a@b.c"})
OPEN = {"enable_v2_encryption": False}
JSON_OBJECT = json.dumps({"email": ["a@b.c"], "more": "text that makes it longer than an envelope"}).encode()

CASES = [
    Case("4.3", "old", "120.000 s", aged(120_000), 400, UNTIMELY),
    Case("4.3", "early", "119.001 s ahead", aged(-119_001), 400, UNTIMELY),
    Case("4.3", "edges", "119.999 s", aged(119_999), json=NOTHING_MAPPED),
    Case("4.3", "edges", "119.000 s ahead", aged(-119_000), json=NOTHING_MAPPED),
    Case("4.4", "text", "answered as text", call(PATH, EMPTY), json=NOTHING_MAPPED, check=answered_in("text/plain")),
    Case("4.4", "text", "padding may be left out", unpadded, json=NOTHING_MAPPED),
    Case("4.4", "text", "a charset is honoured", utf16, json=NOTHING_MAPPED),
    Case(
        "4.4",
        "text",
        "an unknown charset",
        call(PATH, EMPTY, content_type="text/plain; charset=none"),
        json=NOTHING_MAPPED,
    ),
    Case("4.4", "text", "a parameter makes it text", parameterised, 400, NOT_BASE64),
    Case(
        "4.4",
        "1",
        "answered as bytes",
        call(PATH, EMPTY, binary=True),
        json=NOTHING_MAPPED,
        check=answered_in("application/octet-stream"),
    ),
    Case("4.4", "2", "the error of the bytes", octets(b"\2" + bytes(60)), 400, version(2)),
    Case("4.4", "3", "answered as text", base64_as_octets, json=NOTHING_MAPPED, check=answered_in("text/plain")),
    Case(
        "4.4", "3-invalid", "the error of what was decoded", octets(encode_base64(b"\3" * 60).encode()), 400, version(3)
    ),
    Case("4.5", "1", "empty", text(b""), 400, MISSING),
    Case(
        "4.5",
        "1",
        "a form is no body",
        lambda stage: send(stage, b"x", "multipart/form-data; boundary=x"),
        400,
        MISSING,
    ),
    Case("4.5", "2", "JSON object", text(JSON_OBJECT), 400, UNENCRYPTED),
    Case("4.5", "3", "letters of no alphabet", text(b"???"), 400, NOT_BASE64),
    Case("4.5", "3", "JSON array", text(b"[1]"), 400, NOT_BASE64),
    Case("4.5", "3", "a trailing newline", trailing_newline, 400, NOT_BASE64),
    Case("4.5", "3", "bytes that are no text", text(b"\xff\xfe"), 400, NOT_BASE64),
    Case("4.5", "4", "nothing in binary mode", octets(b""), 400, MISSING),
    Case("4.5", "5", "a short JSON object", base64(b'{"email":[]}'), 400, UNENCRYPTED),
    Case("4.5", "6", "44 bytes", base64(b"\1" * 44), 400, TOO_SHORT),
    Case("4.5", "7", "a long JSON object", base64(JSON_OBJECT), 400, UNENCRYPTED),
    Case("4.5", "7", "a JSON object in binary mode", octets(JSON_OBJECT), 400, UNENCRYPTED),
    Case("4.5", "8", "unsigned decimal", base64(b"\xff" * 45), 400, version(255)),
    Case("4.5", "9", "changed ciphertext", altered(flip(20)), 400, WRONG_KEY),
    Case("4.5", "9", "changed IV", altered(flip(1)), 400, WRONG_KEY),
    Case("4.5", "9", "changed tag in binary mode", altered(flip(-1 % 57), binary=True), 400, WRONG_KEY),
    Case("4.5", "9", "cut short", altered(lambda data: data[:-1]), 400, WRONG_KEY),
    Case("4.5", "10", "an hour old", aged(3_600_000), 400, UNTIMELY),
    Case("4.5", "10", "a day ahead", aged(-86_400_000), 400, UNTIMELY),
    Case("4.5", "11", "an array", call("/v2/token/generate", b"[]"), 400, NO_JSON),
    Case("4.5", "11", "cut short", call("/v2/key/latest", b"{"), 400, NO_JSON),
    Case("4.5", "11", "an array for map v2", call(PATH, b"[]"), 400, NO_JSON),
    Case("4.5", "11", "trailing text for map v3", call("/v3/identity/map", b"{} x"), 400, NO_JSON),
    Case("4.5", "11", "bytes that are no text", call("/v2/optout/status", b'{"a":"\xff"}'), 400, NO_JSON),
    Case("4.5", "11", "500 levels", call("/v2/identity/map", b'{"a":' * 500 + b"1" + b"}" * 500), 400, NO_JSON),
    Case("4.6", "off", "plain in, plain out", bare("POST", PATH, EMPTY, FULL_KEY), json=NOTHING_MAPPED, settings=OPEN),
    Case(
        "4.6",
        "off",
        "generate gives the inner refresh token",
        bare("POST", GENERATE, PERSON, FULL_KEY),
        settings=OPEN,
        check=inner_token_works,
    ),
    Case("4.6", "off", "logout is refused", bare("POST", "/v2/token/logout", PERSON, FULL_KEY), 400, settings=OPEN),
    Case("4.6", "off", "keys still count", bare("POST", PATH, EMPTY), 401, {"status": "unauthorized"}, settings=OPEN),
]
