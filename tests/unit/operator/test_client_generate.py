"""Client-side generation: every row of the operator chapter, 9.4, and the origin rules of 9.5."""

import json
import logging
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from uid2.operator.origin_check import is_allowed_app, is_allowed_origin
from uid2.operator.refused_callers import RefusedCallers
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.cstg import seal_cstg_payload
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import SiteId
from uid2.protocol.keysets import KeyRing
from uid2.protocol.tokens.advertising import decode_advertising_token

PATH = "/v2/token/client-generate"
SUBSCRIPTION = "4WvryDGbR5"
API_KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
CLIENT_PUBLIC_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE92+xlW2eIrXsDzV4cSfldDKxLXHsMmjLIqpdwOqJ29pWTNnZMaY2ycZHFpxbp6Ul"
    "Q6vVSpKwImTKr3uikm9yCw=="
)
SHARED = GcmKey(decode_base64("uB89QzhyC2QSZVAlcQqElgYwepmegFl9bRRYQGZ+GYg="))
IV = bytes(range(12))
TIME = 1_700_000_000_000
EMAIL_HASH = {"email_hash": "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ="}
OPTED_OUT = {"email_hash": encode_base64(sha256(b"optout@example.com").digest())}
PAYLOAD = "p6ZAAizrcfvxqBUpWltBD+5vp25f8JdFKVCYXjXLRXqFsDSEuJMD1EYs4V5cq7+BfsWZlSMseE5VzhNpUqPowrFa9ImMt850brr0W1I="
APP_PAYLOAD = "p6ZAAizrcfvxqBUpWltBD+5vp25f8JdFKVCYXjXLRXqFsDSEuJMD1EYs4V5cq7+BfsWZlSMseE5VzhNpUpSrOgN0Y0mZnvliVAw2+B4="
APP = "com.123.Game.App.android"
RESPONSES = "uid2_token_response_status_count_total"


def asked(document: Any = EMAIL_HASH, **changes: Any) -> dict[str, Any]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    request = {
        "subscription_id": SUBSCRIPTION,
        "public_key": CLIENT_PUBLIC_KEY,
        "timestamp": TIME,
        "iv": encode_base64(IV),
        "payload": seal_cstg_payload(payload, IV, SHARED, TIME, changes.get("app_name")),
    }
    return {name: value for name, value in (request | changes).items() if value is not ...}


def send(operator: Any, request: Any, origin: str | None = "https://www.uidapi.com") -> Any:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return operator.send(PATH, body, **({} if origin is None else {"origin": origin}))


def opened(response: Any) -> Any:
    assert response.status == 200
    assert response.content_type is None
    return json.loads(SHARED.open(decode_base64(response.body)))


def refusal(response: Any) -> tuple[int, str, str]:
    document = json.loads(response.body)
    assert response.content_type == "application/json"
    return response.status, document["status"], document["message"]


def test_a_client_side_token_says_so_and_belongs_to_the_keypairs_site(operator: Any) -> None:
    body = opened(send(operator, asked(payload=PAYLOAD)))["body"]
    token = decode_advertising_token(body["advertising_token"], operator.context.snapshot.key_ring)
    assert (token.privacy_bits, token.publisher.site_id) == (3, 123)
    assert len(body["refresh_token"]) == 388
    assert operator.metrics.total(RESPONSES, cstg="true", token_response_status="Success", site_id="123") == 1
    again = operator.send("/v2/token/refresh", body["refresh_token"].encode())
    key = GcmKey(decode_base64(body["refresh_response_key"]))
    renewed = json.loads(key.open(decode_base64(again.body)))["body"]["advertising_token"]
    assert decode_advertising_token(renewed, operator.context.snapshot.key_ring).privacy_bits == 3


def test_an_app_is_bound_into_the_payload(operator: Any) -> None:
    assert opened(send(operator, asked(payload=APP_PAYLOAD, app_name=APP), None))["status"] == "success"
    assert opened(send(operator, asked(app_name=APP.upper()), None))["status"] == "success"
    other = send(operator, asked(payload=PAYLOAD, app_name=APP), None)
    assert refusal(other) == (400, "client_error", "payload decryption failed")


def test_an_opted_out_hash_gets_no_token(operator: Any) -> None:
    assert opened(send(operator, asked(OPTED_OUT))) == {"status": "optout"}


ROWS: list[tuple[Any, tuple[int, str, str]]] = [
    (b"", (400, "client_error", "json payload expected but not found")),
    (b"null", (400, "client_error", "json payload expected but not found")),
    (b"{", (400, "client_error", "json payload is not valid")),
    (asked(subscription_id=...), (400, "client_error", "bad subscription_id")),
    (asked(subscription_id="x"), (400, "client_error", "bad subscription_id")),
    (asked(app_name="other"), (403, "invalid_app_name", "unexpected app name")),
    (asked(app_name=""), (403, "invalid_app_name", "unexpected app name")),
    (asked(payload=...), (400, "client_error", "required parameters: payload, iv, public_key")),
    (asked(iv=None), (400, "client_error", "required parameters: payload, iv, public_key")),
    (asked(public_key=...), (400, "client_error", "required parameters: payload, iv, public_key")),
    (asked(public_key="AAAA"), (400, "client_error", "bad public key")),
    (asked(public_key="?"), (400, "client_error", "bad public key")),
    (asked(iv="?"), (400, "client_error", "bad iv")),
    (asked(iv="AAAA"), (400, "client_error", "bad iv")),
    (asked(payload="?"), (400, "client_error", "payload decryption failed")),
    (asked(payload="AAAA"), (400, "client_error", "payload decryption failed")),
    (asked(timestamp=1), (400, "client_error", "payload decryption failed")),
    (asked(b"[]"), (400, "client_error", "encrypted payload contains invalid json")),
    (asked(b""), (400, "client_error", "encrypted payload contains invalid json")),
    (asked({}), (400, "client_error", "please provide exactly one of: email_hash, phone_hash")),
    (asked({"email": "a@b.c"}), (400, "client_error", "please provide exactly one of: email_hash, phone_hash")),
    (asked({"email_hash": "x"}), (400, "client_error", "Invalid Identifier")),
    (
        asked({"email_hash": "0" * 64, "phone_hash": "0" * 64}),
        (400, "client_error", "please provide exactly one of: email_hash, phone_hash"),
    ),
]


@pytest.mark.parametrize(("request_", "expected"), ROWS)
def test_each_fault_has_its_answer(operator: Any, request_: Any, expected: tuple[int, str, str]) -> None:
    assert refusal(send(operator, request_)) == expected


@pytest.mark.parametrize("request_", [b"[]", b'"x"', asked(extra=1), asked(iv=[1]), asked(timestamp="x")])
def test_what_the_reference_cannot_handle_is_bad_input(operator: Any, request_: Any) -> None:
    status, code, message = refusal(send(operator, request_))
    assert (status, code) == (400, "client_error")
    assert message.startswith("json payload is not valid: ")


def test_a_key_on_another_curve_is_a_bad_public_key(operator: Any) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    text = encode_base64(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert refusal(send(operator, asked(public_key=text)))[2] == "bad public key"


@pytest.mark.parametrize("origin", [None, "https://example.org", "null"])
def test_an_origin_must_be_the_sites(operator: Any, origin: str | None) -> None:
    assert refusal(send(operator, asked(), origin)) == (403, "invalid_http_origin", "unexpected http origin")
    assert operator.metrics.total(RESPONSES, token_response_status="InvalidHttpOrigin", site_id="123") == 1
    operator.change(client_side_token_generate_domain_name_check_enabled=False)
    assert opened(send(operator, asked(), origin))["status"] == "success"


def test_a_disabled_pair_is_refused_before_the_origin(operator: Any) -> None:
    pair = replace(operator.context.snapshot.keypairs[SUBSCRIPTION], disabled=True)
    operator.exchange(keypairs={SUBSCRIPTION: pair})
    assert refusal(send(operator, asked(), None)) == (401, "unauthorized", "Unauthorized")


def test_phones_need_phone_support(make_operator: Any) -> None:
    operator = make_operator(enable_phone_support=False)
    phone = {"phone_hash": "0" * 64}
    assert refusal(send(operator, asked(phone)))[2] == "phone support not enabled"
    assert refusal(send(operator, asked({})))[2] == "please provide email_hash"
    assert opened(send(make_operator(), asked(phone)))["body"]["advertising_token"].startswith("B4")


def test_without_an_active_key_it_says_so(operator: Any) -> None:
    ring = operator.context.snapshot.key_ring
    operator.exchange(key_ring=KeyRing(ring.keysets, [key for key in ring.keys if key.keyset_id != -1]))
    assert refusal(send(operator, asked())) == (500, "unknown", "No active encryption key available")


def test_a_published_api_key_is_reported_without_itself(operator: Any, caplog: pytest.LogCaptureFixture) -> None:
    send(operator, asked(subscription_id=API_KEY))
    (record,) = caplog.records
    assert (record.levelno, API_KEY in record.getMessage()) == (logging.ERROR, False)
    assert "site 999" in record.getMessage()


def test_euid_tokens_have_their_scope(make_operator: Any) -> None:
    body = opened(send(make_operator(identity_scope="euid"), asked()))["body"]
    assert body["advertising_token"].startswith("E4")


DOMAINS = ("examplewebsite.com", "e-wb.org", "aussiedomain.id.au", "localhost")


@pytest.mark.parametrize(
    "origin",
    [
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
    ],
)
def test_origins_of_the_site(origin: str) -> None:
    assert is_allowed_origin(origin, DOMAINS)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "examplewebsite.com",
        "examplewebsite.com:999999",
        "abc:examplewebsite.com",
        "ws://examplewebsite.com",
        "/:$2231examplewebsite.com",
        "http://boohoo.id.au",
        "http://123.boohoo.id.au",
        "https://blah12.com",
        "http://local1host:8080",
        "http://a.b.localhost",
        "http://127.0.0.1",
        "http://[::1]",
        "http://[",
        "http://example_website..com",
        "https://examplewebsite.com.evil.org",
        "https://evil.org/https://examplewebsite.com",
        "https://examplewebsite.com@evil.org",
        "http://id.au",
        "http://unknown.tldwhichisnot",
    ],
)
def test_other_origins(origin: str | None) -> None:
    assert not is_allowed_origin(origin, (*DOMAINS, "id.au", "unknown.tldwhichisnot", "127.0.0.1"))


def test_private_suffixes_count_as_suffixes() -> None:
    assert is_allowed_origin("https://foo.github.io", ("foo.github.io",))
    assert not is_allowed_origin("https://foo.github.io", ("github.io",))
    assert not is_allowed_origin("https://www.example.com", ("www.example.com",))


def test_app_names_are_compared_without_letter_case() -> None:
    assert is_allowed_app("COM.app", ("x", "com.APP"))
    assert not is_allowed_app("", ("x",))


def test_refused_callers_are_logged_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    refused = RefusedCallers(begun=0.0)
    refused.add(SiteId(1), "One", "http://a\n.b", 10.0)
    refused.add(SiteId(2), "Two", "app", 3599.0)
    assert not caplog.records
    refused.add(SiteId(1), "One", "http://c", 3600.0)
    assert caplog.messages == ["InvalidHttpOriginAndAppName: site One (1): http://a?.b, http://c | site Two (2): app"]
    refused.add(SiteId(1), "One", "http://a", 7199.0)
    assert len(caplog.records) == 1
