"""Client-side generation (section 9)."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from case import Ask, Case, bare, error
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from entrance import TOO_LONG
from stage import Answer, Asked, Stage

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.cstg import seal_cstg_payload
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import SiteId
from uid2.protocol.tokens.advertising import decode_advertising_token

PATH = "/v2/token/client-generate"
SUBSCRIPTION = "4WvryDGbR5"
PUBLIC_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE92+xlW2eIrXsDzV4cSfldDKxLXHsMmjLIqpdwOqJ29pWTNnZMaY2ycZHFpxbp6Ul"
    "Q6vVSpKwImTKr3uikm9yCw=="
)
SHARED = GcmKey(decode_base64("uB89QzhyC2QSZVAlcQqElgYwepmegFl9bRRYQGZ+GYg="))
IV, TIME = bytes(range(12)), 1_700_000_000_000
ORIGIN, APP = "https://www.uidapi.com", "com.123.Game.App.android"
EMAIL = {"email_hash": "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ="}
# The chapter's worked vectors, made by another implementation.
VECTOR = "p6ZAAizrcfvxqBUpWltBD+5vp25f8JdFKVCYXjXLRXqFsDSEuJMD1EYs4V5cq7+BfsWZlSMseE5VzhNpUqPowrFa9ImMt850brr0W1I="
VECTOR_OF_APP = (
    "p6ZAAizrcfvxqBUpWltBD+5vp25f8JdFKVCYXjXLRXqFsDSEuJMD1EYs4V5cq7+BfsWZlSMseE5VzhNpUpSrOgN0Y0mZnvliVAw2+B4="
)
HEX = "0" * 64
NO_BODY = error("json payload expected but not found")
MISSING = error("required parameters: payload, iv, public_key")
BAD_KEY, BAD_IV = error("bad public key"), error("bad iv")
UNDECRYPTED = error("payload decryption failed")
NO_OBJECT = error("encrypted payload contains invalid json")
ONE_HASH = error("please provide exactly one of: email_hash, phone_hash")
BAD_APP = error("unexpected app name", "invalid_app_name")
BAD_ORIGIN = error("unexpected http origin", "invalid_http_origin")
UNCHECKED = {"client_side_token_generate_domain_name_check_enabled": False}
WITHOUT_PHONES = {"enable_phone_support": False}


def send(body: Any, origin: str | None = ORIGIN) -> Ask:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if origin is None else {"origin": origin}
    return lambda _: Asked("POST", PATH, headers, data, SHARED, framed=False)


def document(hashes: Any = EMAIL, /, **changes: Any) -> dict[str, Any]:
    """The request of a browser; `...` takes a member out."""
    plaintext = hashes if isinstance(hashes, bytes) else json.dumps(hashes).encode()
    members = {
        "subscription_id": SUBSCRIPTION,
        "public_key": PUBLIC_KEY,
        "timestamp": TIME,
        "iv": encode_base64(IV),
        "payload": seal_cstg_payload(plaintext, IV, SHARED, TIME, changes.get("app_name")),
    }
    return {name: value for name, value in (members | changes).items() if value is not ...}


def refuses(row: str, title: str, body: Any, answer: Any, status: int = 400, **more: Any) -> Case:
    return Case("9.4", row, title, send(body), status, answer, **more)


def disabled(stage: Stage) -> None:
    pair = replace(stage.context.snapshot.keypairs[SUBSCRIPTION], disabled=True)
    stage.exchange(keypairs={SUBSCRIPTION: pair})


def no_master(stage: Stage) -> None:
    stage.without_keys(-1)


def succeeds(stage: Stage, answer: Answer) -> None:
    assert "content-type" not in answer.headers
    assert answer.document["status"] == "success"
    body = answer.document["body"]
    token = decode_advertising_token(body["advertising_token"], stage.context.snapshot.key_ring)
    assert (token.privacy_bits, token.publisher.site_id) == (3, 123)
    assert len(body["refresh_token"]) == 388


def says(start: str) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert (answer.document["status"], answer.document["message"][: len(start)]) == ("client_error", start)

    return check


def public_key_on(curve: ec.EllipticCurve) -> str:
    public = ec.generate_private_key(curve).public_key()
    return encode_base64(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def domains(*names: str) -> Callable[[Stage], None]:
    def prepare(stage: Stage) -> None:
        site = stage.context.snapshot.sites[SiteId(123)]
        stage.exchange(sites={site.id: replace(site, domain_names=names)})

    return prepare


ALLOWED = domains("examplewebsite.com", "e-wb.org", "aussiedomain.id.au", "localhost", "foo.github.io")
YES = (
    "http://examplewebsite.com",
    "https://examplewebsite.com",
    "https://abc.examplewebsite.com:8080/",
    "https://abc.eXampleWebsIte.com:8080/",
    "https://abc.exAmplewEbsite.com:8080/blahh/a.html",
    "https://abc.e-Wb.org:8080/",
    "http://aussiedomain.id.au",
    "https://aussiedomain.id.au/head.html",
    "http://localhost",
    "https://localhost:8080/",
    "https://abc.locaLHost:8080/",
    "https://foo.github.io",
)
NO = (
    "examplewebsite.com",
    "examplewebsite.com:999999",
    "abc:examplewebsite.com",
    "/:$2231examplewebsite.com",
    "http://boohoo.id.au",
    "http://123.boohoo.id.au",
    "https://blah12.com",
    "http://local1host:8080",
    "null",
    "ws://examplewebsite.com",
    "http:examplewebsite.com",
    "http://examplewebsite.com:80a",
    "http://[",
    "https://examplewebsite.com.evil.org",
    "https://examplewebsite.com@evil.org",
    f"http://{'a.' * 130}examplewebsite.com",
    f"http://{'a' * 64}.examplewebsite.com",
    "http://a.b.localhost",
    "http://127.0.0.1",
    "https://bar.github.io",
)

CASES = [
    Case("9.4", "1", "a body beyond 1 MiB", bare("POST", PATH, TOO_LONG), 413, text="Request Too Long"),
    refuses("2", "cut short", b"{", error("json payload is not valid")),
    refuses("2", "bytes that are no text", b"\xff", error("json payload is not valid")),
    refuses("3", "empty", b"", NO_BODY),
    refuses("3", "null", b"null", NO_BODY),
    refuses("4", "unknown", document(subscription_id="x"), error("bad subscription_id")),
    refuses("4", "missing", document(subscription_id=...), error("bad subscription_id")),
    refuses("5", "before the origin", document(), error("Unauthorized", "unauthorized"), 401, prepare=disabled),
    refuses("6", "another app", document(app_name="other"), BAD_APP, 403),
    refuses("6", "an empty name counts", document(app_name=""), BAD_APP, 403),
    Case("9.4", "7", "no origin", send(document(), None), 403, BAD_ORIGIN),
    Case("9.4", "7", "another site", send(document(), "https://example.org"), 403, BAD_ORIGIN),
    refuses("8", "payload", document(payload=...), MISSING),
    refuses("8", "iv", document(iv=None), MISSING),
    refuses("8", "public key", document(public_key=...), MISSING),
    refuses("9", "not base64", document(public_key="?"), BAD_KEY),
    refuses("9", "no key", document(public_key="AAAA"), BAD_KEY),
    refuses("10", "not base64", document(iv="?"), BAD_IV),
    refuses("10", "11 bytes", document(iv=encode_base64(bytes(11))), BAD_IV),
    refuses("11", "not base64", document(payload="?"), UNDECRYPTED),
    refuses("11", "too short", document(payload="AAAA"), UNDECRYPTED),
    refuses("11", "another time", document(timestamp=TIME + 1), UNDECRYPTED),
    refuses("11", "another app", document(payload=VECTOR, app_name=APP), UNDECRYPTED),
    refuses("12", "an array", document(b"[]"), NO_OBJECT),
    refuses("12", "nothing", document(b""), NO_OBJECT),
    refuses(
        "13a",
        "phones are off",
        document({"phone_hash": HEX}),
        error("phone support not enabled"),
        settings=WITHOUT_PHONES,
    ),
    refuses("13b", "none", document({}), ONE_HASH),
    refuses("13b", "no raw e-mail", document({"email": "a@b.c"}), ONE_HASH),
    refuses("13b", "both", document({"email_hash": HEX, "phone_hash": HEX}), ONE_HASH),
    refuses("13b", "phones are off", document({}), error("please provide email_hash"), settings=WITHOUT_PHONES),
    refuses("13c", "too short", document({"email_hash": "x"}), error("Invalid Identifier")),
    Case("9.4", "14", "array", send(b"[]"), 400, check=says("json payload is not valid")),
    Case("9.4", "14", "unknown member", send(document(more=1)), 400, check=says("json payload is not valid")),
    Case("9.4", "14", "wrong type", send(document(timestamp="x")), 400, check=says("json payload is not valid")),
    refuses("14", "another curve", document(public_key=public_key_on(ec.SECP384R1())), BAD_KEY),
    refuses("15", "master", document(), error("No active encryption key available", "unknown"), 500, prepare=no_master),
    Case(
        "9.4",
        "16",
        "opted out",
        send(document({"email_hash": encode_base64(sha256(b"optout@example.com").digest())})),
        json={"status": "optout"},
    ),
    Case("9.4", "16", "the chapter's vector", send(document(payload=VECTOR)), check=succeeds),
    Case("9.4", "16", "phone", send(document({"phone_hash": HEX})), check=succeeds),
    Case(
        "9.5", "app", "the chapter's vector", send(document(payload=VECTOR_OF_APP, app_name=APP), None), check=succeeds
    ),
    Case("9.5", "app", "letter case is ignored", send(document(app_name=APP.upper()), None), check=succeeds),
    Case("9.5", "app", "the origin is not examined", send(document(app_name=APP), "null"), check=succeeds),
    *(Case("9.5", "yes", origin, send(document(), origin), prepare=ALLOWED, check=succeeds) for origin in YES),
    *(Case("9.5", "no", origin, send(document(), origin), 403, BAD_ORIGIN, prepare=ALLOWED) for origin in NO),
    Case(
        "9.5",
        "no",
        "an entry with a sub-domain never matches",
        send(document(), "https://www.example.com"),
        403,
        BAD_ORIGIN,
        prepare=domains("www.example.com"),
    ),
    Case("9.5", "off", "any origin", send(document(), "null"), settings=UNCHECKED, check=succeeds),
    Case("9.5", "off", "any app", send(document(app_name="x"), None), settings=UNCHECKED, check=succeeds),
]
