"""Generate, refresh, validate and logout: every row of the operator chapter, 3.3, 8.2 to 8.5."""

import json
from dataclasses import replace
from typing import Any

import pytest

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import EpochMillis, IdentityScope, IdentityType, SiteId
from uid2.protocol.keysets import KeyRing
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.tokens.advertising import decode_advertising_token
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.refresh import RefreshToken, decode_refresh_token, encode_refresh_token
from uid2.protocol.tokens.wrapped import unwrap_refresh_token, wrap_refresh_token

GENERATE, REFRESH = "/v2/token/generate", "/v2/token/refresh"
VALIDATE, LOGOUT = "/v2/token/validate", "/v2/token/logout"
KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
READER_KEY = "UID2-C-L-123-t32pCM.5NCX1E94UgOd2f8zhsKmxzCoyhXohHYSSWR8U="
BEARER = f"Bearer {KEY}"
EMAIL = {"email": "someone@example.com"}
SUFFICIENT = "CPehNtWPehNtWABAMBFRACBoALAAAEJAAIYgAKwAQAKgArABAAqAAA"
INSUFFICIENT = "CPehXK9PehXK9ABAMBFRACBoADAAAEJAAIYgAKwAQAKgArABAAqAAA"
EXACTLY_ONE = "Required Parameter Missing: exactly one of [email, email_hash, phone, phone_hash] must be specified"
RESPONSES = "uid2_token_response_status_count_total"
UNAUTHORIZED = b'{"status":"unauthorized"}'


def tokens(operator: Any, document: Any = EMAIL) -> dict[str, Any]:
    answer = operator.call(GENERATE, document)
    assert answer.status == 200
    assert answer.document["status"] == "success"
    return answer.document["body"]


def refreshed(body: dict[str, Any], response: Any, binary: bool = False) -> Any:
    blob = response.body if binary else decode_base64(response.body)
    return json.loads(GcmKey(decode_base64(body["refresh_response_key"])).open(blob))


def inner(operator: Any, **changes: Any) -> str:
    """An unwrapped refresh token sealed by this operator's key, with some fields changed."""
    ring = operator.context.snapshot.key_ring
    now = operator.context.clock.now_ms()
    scope, kind = IdentityScope.UID2, IdentityType.EMAIL
    values: dict[str, Any] = {
        "scope": scope,
        "identity_type": kind,
        "expires": EpochMillis(now + 1000),
        "created": now,
        "publisher": PublisherIdentity(SiteId(999)),
        "privacy_bits": 1,
        "established": EpochMillis(now - 5000),
        "first_level_hash": bytes(range(32)),
    }
    return encode_refresh_token(RefreshToken(**(values | changes)), ring.refresh(now // 1000), bytes(12))


def wrapped(operator: Any, token: str) -> str:
    ring, now = operator.context.snapshot.key_ring, operator.context.clock.now_ms()
    return wrap_refresh_token(token, bytes(32), IdentityScope.UID2, ring.refresh(now // 1000), bytes(12))


def without_keys(operator: Any, *keysets: int) -> None:
    ring = operator.context.snapshot.key_ring
    operator.exchange(key_ring=KeyRing(ring.keysets, [key for key in ring.keys if key.keyset_id not in keysets]))


def with_durations(operator: Any, **seconds: int) -> None:
    operator.exchange(runtime_config=replace(operator.context.snapshot.runtime_config, **seconds))


# 3.1 and 3.3


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer ",
        "Bearer",
        f"Basic {KEY}",
        f"Bearer  {KEY}",
        "Bearer UID2-C-L-99999999999999-aaaaaa." + "b" * 38,
    ],
)
def test_a_call_without_a_known_key_is_refused(operator: Any, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    response = operator.send(GENERATE, b"?", x_amzn_trace_id="Root=1", **headers)
    assert (response.status, response.body, response.content_type) == (401, UNAUTHORIZED, "application/json")
    assert ("X-Amzn-Trace-Id", "Root=1") in response.headers


@pytest.mark.parametrize("header", [f"bearer {KEY}", f"BEARER {KEY}", f" \tBearer {KEY} "])
def test_the_scheme_may_have_any_letter_case_and_is_trimmed(operator: Any, header: str) -> None:
    assert operator.send(GENERATE, b"", authorization=header).status == 400


def test_a_key_without_the_role_and_a_disabled_key_are_refused_alike(operator: Any) -> None:
    assert operator.call(GENERATE, EMAIL, READER_KEY).response.body == UNAUTHORIZED
    client = replace(operator.client(KEY), disabled=True)
    operator.exchange(clients=type(operator.context.snapshot.clients)([client]))
    assert operator.call(GENERATE, EMAIL).response.body == UNAUTHORIZED


def test_the_trace_id_is_echoed_on_success_and_refresh(operator: Any) -> None:
    assert ("X-Amzn-Trace-Id", "t") in operator.call(GENERATE, EMAIL, x_amzn_trace_id="t").response.headers
    assert ("X-Amzn-Trace-Id", "t") in operator.send(REFRESH, b"", x_amzn_trace_id="t").headers


# 8.2


def test_generate_gives_the_documented_body(operator: Any) -> None:
    body = tokens(operator)
    now, config = operator.context.clock.now_ms(), operator.context.snapshot.runtime_config
    ring = operator.context.snapshot.key_ring
    assert body["identity_expires"] == now + config.identity_token_expires_after_seconds * 1000
    assert body["refresh_expires"] == now + config.refresh_token_expires_after_seconds * 1000
    assert body["refresh_from"] == now + config.refresh_identity_token_after_seconds * 1000
    assert len(body["refresh_token"]) == 388
    assert len(decode_base64(body["refresh_response_key"])) == 32
    token = decode_advertising_token(body["advertising_token"], ring)
    assert (token.publisher.site_id, token.privacy_bits, token.scope) == (999, 1, IdentityScope.UID2)
    assert token.expires == body["identity_expires"]
    content = unwrap_refresh_token(body["refresh_token"], ring)
    assert encode_base64(content.response_key) == body["refresh_response_key"]
    assert decode_refresh_token(content.refresh_token, ring).expires == body["refresh_expires"]
    assert operator.metrics.total(RESPONSES, token_response_status="Success", token_endpoint="GenerateV2") == 1


def test_generate_answers_bytes_to_bytes(operator: Any) -> None:
    answer = operator.call(GENERATE, EMAIL, binary=True)
    assert answer.response.content_type == "application/octet-stream"
    assert answer.document["status"] == "success"


@pytest.mark.parametrize(
    ("field", "text", "first"),
    [
        ("email", "a@b.c", "A4"),
        ("phone", "+12345678901", "B4"),
        ("email_hash", "a" * 64, "A4"),
        ("phone_hash", "0" * 64, "B4"),
    ],
)
def test_every_field_makes_a_token_of_its_type(operator: Any, field: str, text: str, first: str) -> None:
    assert tokens(operator, {field: text})["advertising_token"].startswith(first)


@pytest.mark.parametrize("document", [None, {}, {"email": None}, {"email": "a@b.c", "phone": "+12345678901"}])
def test_exactly_one_identity_is_asked_for(operator: Any, document: Any) -> None:
    answer = operator.call(GENERATE, document)
    assert (answer.status, answer.document) == (400, {"status": "client_error", "message": EXACTLY_ONE})


def test_without_phone_support_phones_neither_count_nor_conflict(make_operator: Any) -> None:
    operator = make_operator(enable_phone_support=False)
    text = "Required Parameter Missing: exactly one of email or email_hash must be specified"
    assert operator.call(GENERATE, {"phone": "+12345678901"}).document["message"] == text
    assert operator.call(GENERATE, {**EMAIL, "phone": 1}).document["status"] == "success"


@pytest.mark.parametrize(
    "document",
    [{"email": ""}, {"email": "nobody"}, {"phone": "123"}, {"email_hash": "x"}, {"phone": {"a": 1}}, {"email": 12}],
)
def test_an_invalid_identity_is_named_so(operator: Any, document: Any) -> None:
    assert operator.call(GENERATE, document).document == {"status": "client_error", "message": "Invalid Identifier"}


@pytest.mark.parametrize("extra", [{"policy": 0}, {"optout_check": "x"}, {"policy": [1], "unknown": {}}])
def test_historic_and_unknown_members_are_ignored(operator: Any, extra: dict[str, Any]) -> None:
    assert operator.call(GENERATE, EMAIL | extra).document["status"] == "success"


@pytest.mark.parametrize("consent", [None, "", "invalid_consent_string", 7])
def test_an_unusable_consent_string_is_refused_in_euid(make_operator: Any, consent: Any) -> None:
    answer = make_operator(identity_scope="euid").call(GENERATE, {**EMAIL, "tcf_consent_string": consent})
    assert (answer.status, answer.document["message"]) == (400, "User consent is invalid")


def test_consent_decides_in_euid_only(make_operator: Any) -> None:
    euid, uid2 = make_operator(identity_scope="EUID"), make_operator()
    assert euid.call(GENERATE, {**EMAIL, "tcf_consent_string": INSUFFICIENT}).document == {
        "status": "insufficient_user_consent"
    }
    body = euid.call(GENERATE, {**EMAIL, "tcf_consent_string": SUFFICIENT}).document["body"]
    assert body["advertising_token"].startswith("E4")
    assert decode_base64(body["refresh_token"])[0] == 0x10
    assert euid.call(GENERATE, EMAIL).document["status"] == "success"
    assert uid2.call(GENERATE, {**EMAIL, "tcf_consent_string": "?"}).document["status"] == "success"
    assert euid.metrics.total("uid2_token_generate_tcf_usage_total") == 2


@pytest.mark.parametrize(
    ("document", "on_generate", "on_refresh"),
    [
        ({"email": "optout@example.com"}, "optout", None),
        ({"phone": "+00000000000"}, "optout", None),
        ({"email": "refresh-optout@example.com"}, "success", "optout"),
        ({"phone": "+00000000002"}, "success", "optout"),
        ({"email": "validate@example.com"}, "success", "success"),
    ],
)
def test_the_test_identities(operator: Any, document: Any, on_generate: str, on_refresh: str | None) -> None:
    answer = operator.call(GENERATE, document)
    assert answer.document["status"] == on_generate
    if on_refresh is None:
        assert answer.document == {"status": "optout"}
        return
    body = answer.document["body"]
    response = operator.send(REFRESH, body["refresh_token"].encode())
    assert refreshed(body, response)["status"] == on_refresh


def test_a_validate_identity_in_the_opt_out_data_still_gets_tokens(operator: Any) -> None:
    for text in ("validate@example.com", EMAIL["email"]):
        identity_hash = identity_hash_from(InputKind.EMAIL, text)
        assert identity_hash is not None
        flh = first_level_hash(identity_hash, operator.context.snapshot.salts.first_level)
        operator.context.optouts = operator.context.optouts.with_entries([(flh, bytes(32), 1)])
    assert operator.call(GENERATE, {"email": "validate@example.com"}).document["status"] == "success"
    assert operator.call(GENERATE, EMAIL).document == {"status": "optout"}


@pytest.mark.parametrize("keysets", [(-1,), (-2,)])
def test_without_an_active_key_generate_says_so(operator: Any, keysets: tuple[int, ...]) -> None:
    without_keys(operator, *keysets)
    answer = operator.call(GENERATE, EMAIL)
    assert (answer.status, answer.document["message"]) == (500, "No active encryption key available")
    assert answer.document["status"] == "unknown"


def test_contradicting_durations_are_an_unknown_error(operator: Any) -> None:
    with_durations(operator, refresh_token_expires_after_seconds=1)
    answer = operator.call(GENERATE, EMAIL)
    assert (answer.status, answer.document["message"]) == (500, "Unknown error while generating token v2")


def test_without_envelopes_the_inner_refresh_token_goes_out(make_operator: Any) -> None:
    operator = make_operator(enable_v2_encryption=False)
    response = operator.send(GENERATE, json.dumps(EMAIL).encode(), authorization=BEARER)
    body = json.loads(response.body)["body"]
    assert (len(body["refresh_token"]), "refresh_response_key" in body) == (168, False)
    assert response.content_type == "application/json"
    assert json.loads(operator.send(REFRESH, body["refresh_token"].encode()).body)["status"] == "success"
    assert operator.send(LOGOUT, json.dumps(EMAIL).encode(), authorization=BEARER).status == 400


# 8.3


def test_refresh_keeps_what_it_must_and_renews_the_rest(operator: Any) -> None:
    body = tokens(operator)
    operator.context.clock.advance(60_000)
    response = operator.send(REFRESH, body["refresh_token"].encode())
    assert response.content_type == "text/plain"
    fresh = refreshed(body, response)["body"]
    ring = operator.context.snapshot.key_ring
    old, new = (decode_advertising_token(each["advertising_token"], ring) for each in (body, fresh))
    assert (new.publisher, new.privacy_bits, new.established) == (old.publisher, old.privacy_bits, old.established)
    assert (new.raw_uid, new.created, new.refreshed) == (old.raw_uid, old.created + 60_000, old.created + 60_000)
    assert fresh["refresh_response_key"] != body["refresh_response_key"]
    assert ("uid2_token_refresh_duration_seconds", 60.0) in operator.metrics.observed


def test_refresh_answers_bytes_to_an_octet_stream(operator: Any) -> None:
    body = tokens(operator)
    response = operator.send(REFRESH, body["refresh_token"].encode(), content_type="Application/Octet-Stream")
    assert response.content_type == "application/octet-stream"
    assert refreshed(body, response, binary=True)["status"] == "success"


def test_an_unwrapped_token_is_answered_plainly_and_migrated(operator: Any) -> None:
    response = operator.send(REFRESH, inner(operator).encode())
    body = json.loads(response.body)["body"]
    assert response.content_type == "application/json"
    assert len(body["refresh_token"]) == 388
    assert len(body["refresh_response_key"]) == 44


def flipped(text: str, place: int) -> str:
    data = bytearray(decode_base64(text))
    data[place] ^= 1
    return encode_base64(bytes(data))


def test_each_fault_of_a_wrapped_token_has_its_text(operator: Any) -> None:
    good = tokens(operator)["refresh_token"]
    ring, now = operator.context.snapshot.key_ring, operator.context.clock.now_ms()
    key = ring.refresh(now // 1000)
    no_json = encode_base64(b"\0" + key.id.to_bytes(4, "big") + key.gcm.seal(bytes(12), b"x" * 258))
    cases = {
        "!" * 388: "Invalid body: Body is not valid base64.",
        flipped(good, 1): f"Invalid key: Generator of this token (Key ID: {key.id + (1 << 24)}) does not exist.",
        flipped(good, 40): "Invalid data: Check encryption method and encryption key.",
        no_json: "Invalid format: Payload is not valid json or missing required data.",
    }
    for text, message in cases.items():
        response = operator.send(REFRESH, text.encode())
        assert (response.status, json.loads(response.body)) == (400, {"status": "client_error", "message": message})


@pytest.mark.parametrize("text", ["", "?", "AAAA", "A3", "A3AA", "BgAA", "a" * 168, "0" * 5000])
def test_an_invalid_token_is_explained_to_known_callers_only(operator: Any, text: str) -> None:
    known = operator.send(REFRESH, text.encode(), authorization=BEARER)
    assert (known.status, json.loads(known.body)) == (
        400,
        {"status": "invalid_token", "message": "Invalid Token presented"},
    )
    unknown = operator.send(REFRESH, text.encode(), authorization="Bearer nobody")
    assert (unknown.status, json.loads(unknown.body)) == (
        400,
        {"status": "error", "message": "Error refreshing token"},
    )


def test_a_corrupted_unwrapped_token_is_bad_input(operator: Any) -> None:
    token = inner(operator)
    for place in (1, 2, 20, 123):
        assert operator.send(REFRESH, flipped(token, place).encode()).status == 400
    for length in range(0, len(token), 4):
        assert operator.send(REFRESH, token[:length].encode()).status == 400


def test_disabled_keys_still_count_as_authenticated(operator: Any) -> None:
    client = replace(operator.client(KEY), disabled=True)
    operator.exchange(clients=type(operator.context.snapshot.clients)([client]))
    assert json.loads(operator.send(REFRESH, b"?", authorization=BEARER).body)["status"] == "invalid_token"


def test_the_order_of_the_refresh_decision(operator: Any) -> None:
    now = operator.context.clock.now_ms()
    old, past = EpochMillis(1_615_222_799_999), EpochMillis(now - 1)
    euid = inner(operator, scope=IdentityScope.EUID, established=old, expires=past)
    assert json.loads(operator.send(REFRESH, euid.encode(), authorization=BEARER).body)["status"] == "invalid_token"
    deprecated = inner(operator, established=old, expires=past)
    assert json.loads(operator.send(REFRESH, deprecated.encode()).body) == {"status": "optout"}
    expired = operator.send(REFRESH, inner(operator, expires=past).encode(), authorization=BEARER)
    assert json.loads(expired.body) == {"status": "expired_token", "message": "Expired Token presented"}
    assert json.loads(operator.send(REFRESH, inner(operator, expires=past).encode()).body)["status"] == "error"
    assert json.loads(operator.send(REFRESH, inner(operator, expires=now).encode()).body)["status"] == "success"
    first = inner(operator, established=EpochMillis(old + 1))
    assert json.loads(operator.send(REFRESH, first.encode()).body)["status"] == "success"
    without_keys(operator, -1)
    keyless = operator.send(REFRESH, inner(operator).encode(), authorization=BEARER)
    assert (keyless.status, json.loads(keyless.body)["message"]) == (500, "No active encryption key available")
    assert operator.send(REFRESH, inner(operator).encode()).status == 400
    with_durations(operator, identity_token_expires_after_seconds=1)
    broken = operator.send(REFRESH, euid.encode())
    assert (broken.status, json.loads(broken.body)["message"]) == (500, "Unknown error while refreshing token v2")


def test_two_default_keysets_make_a_refresh_invalid_and_a_generate_unknown(operator: Any) -> None:
    ring = operator.context.snapshot.key_ring
    mine = next(keyset for keyset in ring.keysets if keyset.site_id == 123 and keyset.default)
    twice = [
        *ring.keysets,
        replace(mine, keyset_id=9001, site_id=SiteId(999)),
        replace(mine, keyset_id=9002, site_id=SiteId(999)),
    ]
    operator.exchange(key_ring=KeyRing(twice, ring.keys))
    refused = operator.send(REFRESH, inner(operator).encode(), authorization=BEARER)
    assert json.loads(refused.body)["status"] == "invalid_token"
    assert operator.call(GENERATE, EMAIL).document["message"] == "Unknown error while generating token v2"


# 8.4


def owned_by(operator: Any, site: int) -> None:
    """Give the site a default keyset with an active key, so that its tokens carry its own key."""
    ring, now = operator.context.snapshot.key_ring, operator.context.clock.now_ms() // 1000
    keysets = list(ring.keysets)
    own = replace(keysets[0], keyset_id=9000, site_id=SiteId(site), default=True, enabled=True)
    key = replace(ring.master(now), id=900_000, keyset_id=9000)
    operator.exchange(key_ring=KeyRing([*(k for k in keysets if k.site_id != site), own], [*ring.keys, key]))


def test_validate_compares_with_the_current_raw_uid(operator: Any) -> None:
    owned_by(operator, 999)
    token = tokens(operator)["advertising_token"]
    assert operator.call(VALIDATE, {**EMAIL, "token": token}).document == {"status": "success", "body": True}
    other = {"email": "other@example.com", "token": token}
    assert operator.call(VALIDATE, other).document == {"status": "success", "body": False}
    operator.context.clock.advance(10**10)
    assert operator.call(VALIDATE, {**EMAIL, "token": token}).document["body"] is True
    assert operator.metrics.total("uid2_token_validate_total", result="match") == 2
    assert operator.metrics.total("uid2_token_validate_total", result="mismatch") == 1


def test_validate_refuses_tokens_of_other_keys(operator: Any) -> None:
    token = tokens(operator)["advertising_token"]
    owned_by(operator, 999)
    answer = operator.call(VALIDATE, {**EMAIL, "token": token})
    assert (answer.status, answer.document["message"]) == (400, "Unauthorised to validate token")


@pytest.mark.parametrize("token", [None, "", "abc", "A4AA", "?" * 200, 7, ["x"], "AgAA"])
def test_validate_needs_a_readable_token(operator: Any, token: Any) -> None:
    answer = operator.call(VALIDATE, {**EMAIL, "token": token})
    assert (answer.status, answer.document) == (400, {"status": "client_error", "message": "Invalid token"})


def test_validate_looks_at_the_identity_first(operator: Any) -> None:
    assert operator.call(VALIDATE, {"token": "?"}).document["message"] == EXACTLY_ONE
    assert operator.call(VALIDATE, None).document["message"] == EXACTLY_ONE
    assert operator.call(VALIDATE, {"email": "x", "token": "?"}).document["message"] == "Invalid Identifier"


# 8.5


def test_a_logout_is_recorded_then_honoured_then_answered(operator: Any) -> None:
    document = {"email": "Some.One@gmail.com", "clientIp": "192.0.2.7"}
    assert operator.call(GENERATE, document).document["status"] == "success"
    answer = operator.call(LOGOUT, document, uid_trace_id="trace")
    assert answer.document == {"status": "success", "body": {"optout": "OK"}}
    (recorded,) = operator.sink.recorded
    assert (recorded.email, recorded.phone, recorded.client_ip) == ("Some.One@gmail.com", None, "192.0.2.7")
    assert recorded.trace_id == "trace"
    assert operator.call(GENERATE, document).document == {"status": "optout"}


def test_hash_logouts_carry_no_identity(operator: Any) -> None:
    operator.call(LOGOUT, {"phone_hash": "a" * 64})
    (recorded,) = operator.sink.recorded
    assert (recorded.email, recorded.phone) == (None, None)


@pytest.mark.parametrize("document", [None, {}, {"email": "a@b.c", "phone": "+12345678901"}])
def test_a_logout_without_one_identity_is_refused(operator: Any, document: Any) -> None:
    answer = operator.call(LOGOUT, document)
    assert answer.document == {"status": "invalid_token", "message": "Invalid Token presented null"}
    assert answer.status == 400


def test_a_logout_with_an_invalid_identity_is_refused(operator: Any) -> None:
    answer = operator.call(LOGOUT, {"email": "nobody"})
    assert (answer.status, answer.document["status"]) == (400, "invalid_token")
    assert answer.document["message"].startswith("Invalid Token presented")
    assert "nobody" not in answer.document["message"]


def test_a_logout_that_is_not_durable_is_kept_nowhere(operator: Any) -> None:
    operator.sink.fails = True
    response = operator.call(LOGOUT, EMAIL).response
    assert (response.status, response.body, response.content_type) == (500, b"Internal Server Error", None)
    assert operator.call(GENERATE, EMAIL).document["status"] == "success"
