"""Token endpoints (section 8)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from case import Ask, Case, call, error, success
from entrance import entrance
from stage import FULL_KEY, NOW, Answer, Asked, Stage

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import EpochMillis, EpochSeconds, IdentityScope, IdentityType, KeyId, KeysetId, SiteId
from uid2.protocol.keysets import KeyRing
from uid2.protocol.tokens.advertising import decode_advertising_token
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.refresh import RefreshToken, encode_refresh_token
from uid2.protocol.tokens.wrapped import wrap_refresh_token

GENERATE, REFRESH = "/v2/token/generate", "/v2/token/refresh"
VALIDATE, LOGOUT = "/v2/token/validate", "/v2/token/logout"
EMAIL = {"email": "someone@example.com"}
TWO = {"email": "a@b.c", "phone": "+1234567890"}
SUFFICIENT = "CPehNtWPehNtWABAMBFRACBoALAAAEJAAIYgAKwAQAKgArABAAqAAA"
INSUFFICIENT = "CPehXK9PehXK9ABAMBFRACBoADAAAEJAAIYgAKwAQAKgArABAAqAAA"
EXACTLY_ONE = error(
    "Required Parameter Missing: exactly one of [email, email_hash, phone, phone_hash] must be specified"
)
EMAIL_ONLY = error("Required Parameter Missing: exactly one of email or email_hash must be specified")
INVALID = error("Invalid Identifier")
NO_KEY = error("No active encryption key available", "unknown")
UNKNOWN = error("Unknown error while generating token v2", "unknown")
UNKNOWN_REFRESH = error("Unknown error while refreshing token v2", "unknown")
BAD_CONSENT = error("User consent is invalid")
INVALID_TOKEN = error("Invalid Token presented", "invalid_token")
EXPIRED_TOKEN = error("Expired Token presented", "expired_token")
UNEXPLAINED = error("Error refreshing token", "error")
LOGOUT_NULL = error("Invalid Token presented null", "invalid_token")
OPTED_OUT = {"status": "optout"}
EUID = {"identity_scope": "euid"}
RESPONSE_KEY = bytes(range(32))


def consent(text: Any) -> dict[str, Any]:
    return {**EMAIL, "tcf_consent_string": text}


def gone(stage: Stage) -> None:
    stage.opt_out(EMAIL["email"])


def without(*keysets: int) -> Callable[[Stage], None]:
    return lambda stage: stage.without_keys(*keysets)


def contradiction(stage: Stage) -> None:
    stage.runtime(refresh_token_expires_after_seconds=1)


def two_defaults(stage: Stage) -> None:
    ring = stage.context.snapshot.key_ring
    pattern = next(one for one in ring.keysets if one.keyset_id == 501)
    twice = [replace(pattern, keyset_id=KeysetId(number), site_id=SiteId(999)) for number in (9001, 9002)]
    stage.exchange(key_ring=KeyRing([*ring.keysets, *twice], ring.keys))


def own_key(stage: Stage) -> None:
    """The caller's site gets a default keyset of its own."""
    ring = stage.context.snapshot.key_ring
    pattern = next(one for one in ring.keysets if one.keyset_id == 501)
    keyset = replace(pattern, keyset_id=KeysetId(9000), site_id=SiteId(999))
    key = replace(ring.master(EpochSeconds(NOW // 1000)), id=KeyId(900_000), keyset_id=KeysetId(9000))
    stage.exchange(key_ring=KeyRing([*ring.keysets, keyset], [*ring.keys, key]))


def generated(stage: Stage, answer: Answer) -> None:
    assert answer.document.keys() == {"body", "status"}
    assert answer.document["status"] == "success"
    now = stage.clock.now_ms()
    body = dict(answer.document["body"])
    token = decode_advertising_token(body.pop("advertising_token"), stage.context.snapshot.key_ring)
    assert (token.publisher.site_id, token.privacy_bits, token.expires) == (999, 1, now + 3_600_000)
    assert len(body.pop("refresh_token")) == 388
    assert len(decode_base64(body.pop("refresh_response_key"))) == 32
    assert body == {
        "identity_expires": now + 3_600_000,
        "refresh_expires": now + 86_400_000,
        "refresh_from": now + 900_000,
    }


def starts(letter: str) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert answer.document["body"]["advertising_token"].startswith(f"{letter}4")

    return check


def succeeds(_: Stage, answer: Answer) -> None:
    assert answer.document["status"] == "success"


GENERATE_CASES = [
    *entrance("8.2", GENERATE, ("1", "2", "3")),
    Case("8.2", "4", "no payload", call(GENERATE), 400, EXACTLY_ONE),
    Case("8.2", "4", "none", call(GENERATE, {"token": "x"}), 400, EXACTLY_ONE),
    Case("8.2", "4", "two", call(GENERATE, TWO), 400, EXACTLY_ONE),
    Case("8.2", "4", "no phones", call(GENERATE), 400, EMAIL_ONLY, settings={"enable_phone_support": False}),
    Case("8.2", "5", "e-mail", call(GENERATE, {"email": "x"}), 400, INVALID),
    Case("8.2", "5", "hash", call(GENERATE, {"phone_hash": "x"}), 400, INVALID),
    Case("8.2", "6", "unreadable", call(GENERATE, consent("invalid_consent_string")), 400, BAD_CONSENT, settings=EUID),
    Case("8.2", "6", "null", call(GENERATE, consent(None)), 400, BAD_CONSENT, settings=EUID),
    Case("8.2", "6", "empty", call(GENERATE, consent("")), 400, BAD_CONSENT, settings=EUID),
    Case(
        "8.2",
        "7",
        "purpose 1 is missing",
        call(GENERATE, consent(INSUFFICIENT)),
        settings=EUID,
        json={"status": "insufficient_user_consent"},
    ),
    Case(
        "8.2",
        "7",
        "another vendor",
        call(GENERATE, consent(SUFFICIENT)),
        settings={**EUID, "tcf_vendor_id": 20},
        json={"status": "insufficient_user_consent"},
    ),
    Case("8.2", "8", "in the data", call(GENERATE, EMAIL), json=OPTED_OUT, prepare=gone),
    Case(
        "8.2",
        "8",
        "the flags of old change nothing",
        call(GENERATE, {**EMAIL, "optout_check": 0, "policy": []}),
        json=OPTED_OUT,
        prepare=gone,
    ),
    Case("8.2", "9", "master", call(GENERATE, EMAIL), 500, NO_KEY, prepare=without(-1)),
    Case("8.2", "9", "refresh", call(GENERATE, EMAIL), 500, NO_KEY, prepare=without(-2)),
    Case("8.2", "9", "site and fallback", call(GENERATE, EMAIL), 500, NO_KEY, prepare=without(2)),
    Case("8.2", "11", "two default keysets", call(GENERATE, EMAIL), 500, UNKNOWN, prepare=two_defaults),
    Case("8.2", "11", "durations", call(GENERATE, EMAIL), 500, UNKNOWN, prepare=contradiction),
    Case("8.2", "13", "the whole body", call(GENERATE, EMAIL), check=generated),
    Case("8.2", "13", "phone", call(GENERATE, {"phone": "+1234567890"}), check=starts("B")),
    Case("8.2", "13", "consent suffices", call(GENERATE, consent(SUFFICIENT)), settings=EUID, check=starts("E")),
    Case("8.2.1", "missing", "goes on", call(GENERATE, EMAIL), settings=EUID, check=succeeds),
    Case("8.2.1", "uid2", "is not looked at", call(GENERATE, consent("?")), check=succeeds),
]


def inner(stage: Stage, **changes: Any) -> str:
    """An unwrapped refresh token of this operator."""
    now = stage.clock.now_ms()
    values: dict[str, Any] = {
        "scope": IdentityScope.UID2,
        "identity_type": IdentityType.EMAIL,
        "expires": EpochMillis(now + 1000),
        "created": EpochMillis(now - 5000),
        "publisher": PublisherIdentity(SiteId(999)),
        "privacy_bits": 1,
        "established": EpochMillis(now - 5000),
        "first_level_hash": bytes(range(32)),
    }
    key = stage.context.snapshot.key_ring.refresh(EpochSeconds(NOW // 1000))
    return encode_refresh_token(RefreshToken(**(values | changes)), key, bytes(12))


def wrapped(stage: Stage, **changes: Any) -> str:
    key = stage.context.snapshot.key_ring.refresh(EpochSeconds(NOW // 1000))
    return wrap_refresh_token(inner(stage, **changes), RESPONSE_KEY, IdentityScope.UID2, key, bytes(12))


def refresh(text: str | Callable[[Stage], str], known: bool = False, **headers: str) -> Ask:
    """The token's text; `known` with a bearer key. A sealed answer opens with the presented token's response key."""

    def ask(stage: Stage) -> Asked:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if known:
            fields["authorization"] = f"Bearer {FULL_KEY}"
        body = (text if isinstance(text, str) else text(stage)).encode()
        return Asked("POST", REFRESH, fields, body, GcmKey(RESPONSE_KEY), framed=False)

    return ask


def flipped(place: int, make: Callable[[Stage], str] = wrapped) -> Callable[[Stage], str]:
    def text(stage: Stage) -> str:
        data = bytearray(decode_base64(make(stage)))
        data[place] ^= 1
        return encode_base64(bytes(data))

    return text


def no_json(stage: Stage) -> str:
    key = stage.context.snapshot.key_ring.refresh(EpochSeconds(NOW // 1000))
    return encode_base64(b"\0" + key.id.to_bytes(4, "big") + key.gcm.seal(bytes(12), b"x" * 258))


def token_with(**changes: Any) -> Callable[[Stage], str]:
    return lambda stage: wrapped(stage, **changes)


def legacy_with(**changes: Any) -> Callable[[Stage], str]:
    return lambda stage: inner(stage, **changes)


PAST, NOW_EXACTLY = EpochMillis(NOW - 1), NOW
LAST_DEPRECATED = EpochMillis(1_615_222_799_999)
OF_EUID = token_with(scope=IdentityScope.EUID)
KEY_102 = "Invalid key: Generator of this token (Key ID: 16777318) does not exist."


def both(row: str, title: str, text: Any, known: Any, unknown: Any, status: int = 400, **more: Any) -> list[Case]:
    """The same token from a caller with a key and from one without."""
    return [
        Case("8.3", row, f"{title}, key", refresh(text, True), status, known, **more),
        Case("8.3", row, f"{title}, no key", refresh(text), 400 if unknown == UNEXPLAINED else status, unknown, **more),
    ]


def renewed(stage: Stage, answer: Answer) -> None:
    body = answer.document["body"]
    token = decode_advertising_token(body["advertising_token"], stage.context.snapshot.key_ring)
    assert (token.privacy_bits, token.established) == (1, NOW - 5000)
    assert len(body["refresh_token"]) == 388
    assert body["refresh_response_key"] != encode_base64(RESPONSE_KEY)


def sent_as(content_type: str) -> Callable[[Stage, Answer], None]:
    def check(stage: Stage, answer: Answer) -> None:
        assert answer.headers["content-type"] == content_type
        renewed(stage, answer)

    return check


def gone_flh(stage: Stage) -> None:
    stage.context.optouts = stage.context.optouts.with_entries([(bytes(range(32)), bytes(32), 1)])


def gone_and_keyless(stage: Stage) -> None:
    gone_flh(stage)
    stage.without_keys(-1)


def short_identity(stage: Stage) -> None:
    stage.runtime(identity_token_expires_after_seconds=1)


REFRESH_CASES = [
    Case("8.3", "1", "388 characters", refresh("!" * 388), 400, error("Invalid body: Body is not valid base64.")),
    Case("8.3", "2", "unknown key", refresh(flipped(1)), 400, error(KEY_102)),
    Case(
        "8.3",
        "3",
        "changed ciphertext",
        refresh(flipped(40)),
        400,
        error("Invalid data: Check encryption method and encryption key."),
    ),
    Case(
        "8.3",
        "4",
        "no JSON inside",
        refresh(no_json),
        400,
        error("Invalid format: Payload is not valid json or missing required data."),
    ),
    *both("invalid", "no body", "", INVALID_TOKEN, UNEXPLAINED),
    *both("invalid", "not base64", "?", INVALID_TOKEN, UNEXPLAINED),
    *both("invalid", "unknown version", "BgAA", INVALID_TOKEN, UNEXPLAINED),
    *both("invalid", "wrong scope", OF_EUID, INVALID_TOKEN, UNEXPLAINED),
    *both("invalid", "two default keysets", wrapped, INVALID_TOKEN, UNEXPLAINED, prepare=two_defaults),
    *both("expired", "a millisecond ago", token_with(expires=PAST), EXPIRED_TOKEN, UNEXPLAINED),
    *both(
        "expired", "scope comes first", token_with(expires=PAST, scope=IdentityScope.EUID), INVALID_TOKEN, UNEXPLAINED
    ),
    *both("no-key", "master", wrapped, NO_KEY, UNEXPLAINED, 500, prepare=without(-1)),
    *both(
        "deprecated",
        "even when expired",
        token_with(established=LAST_DEPRECATED, expires=PAST),
        OPTED_OUT,
        OPTED_OUT,
        200,
    ),
    *both("optout", "in the data", wrapped, OPTED_OUT, OPTED_OUT, 200, prepare=gone_flh),
    *both("optout", "before the keys", wrapped, OPTED_OUT, OPTED_OUT, 200, prepare=gone_and_keyless),
    Case("8.3", "expired", "not at the very end", refresh(token_with(expires=NOW_EXACTLY)), check=renewed),
    Case(
        "8.3",
        "deprecated",
        "not a millisecond later",
        refresh(token_with(established=EpochMillis(LAST_DEPRECATED + 1))),
        check=succeeds,
    ),
    Case("8.3", "ok", "with a key", refresh(wrapped, True), check=renewed),
    Case("8.3", "ok", "without a key", refresh(wrapped), check=renewed),
    *both("corrupted", "changed", flipped(50, inner), INVALID_TOKEN, UNEXPLAINED),
    *both("corrupted", "too short", lambda stage: inner(stage)[:40], INVALID_TOKEN, UNEXPLAINED),
    *both("durations", "contradiction", wrapped, UNKNOWN_REFRESH, UNKNOWN_REFRESH, 500, prepare=short_identity),
    Case("8.3", "wrapped", "text", refresh(wrapped), check=sent_as("text/plain")),
    Case(
        "8.3",
        "wrapped",
        "bytes",
        refresh(wrapped, content_type="application/octet-stream"),
        check=sent_as("application/octet-stream"),
    ),
    Case("8.3", "legacy", "plain JSON", refresh(inner), check=sent_as("application/json")),
    Case("8.3", "legacy", "opted out", refresh(inner), json=OPTED_OUT, prepare=gone_flh),
]


def validating(email: str, change: Callable[[str], str] = lambda text: text) -> Ask:
    """Validates a token that was just generated for EMAIL."""

    def ask(stage: Stage) -> Asked:
        token = stage.document(GENERATE, EMAIL)["body"]["advertising_token"]
        return stage.sealed(VALIDATE, {"email": email, "token": change(token)})

    return ask


def later(stage: Stage) -> None:
    own_key(stage)
    gone_flh(stage)


BAD_TOKEN = error("Invalid token")
VALIDATE_CASES = [
    *entrance("8.4", VALIDATE),
    Case("8.4", "2", "missing", call(VALIDATE, {"token": "x"}), 400, EXACTLY_ONE),
    Case("8.4", "2", "no payload", call(VALIDATE), 400, EXACTLY_ONE),
    Case("8.4", "2", "several", call(VALIDATE, TWO), 400, EXACTLY_ONE),
    Case("8.4", "3", "before the token", call(VALIDATE, {"email": "x"}), 400, INVALID),
    Case("8.4", "4", "missing", call(VALIDATE, EMAIL), 400, BAD_TOKEN),
    Case("8.4", "4", "malformed", call(VALIDATE, {**EMAIL, "token": "A4AA"}), 400, BAD_TOKEN),
    Case(
        "8.4",
        "4",
        "changed",
        validating(EMAIL["email"], lambda text: text[:-2] + "AA"),
        400,
        BAD_TOKEN,
        prepare=own_key,
    ),
    Case("8.4", "5", "fallback key", validating(EMAIL["email"]), 400, error("Unauthorised to validate token")),
    Case("8.4", "6", "another person", validating("other@example.com"), json=success(False), prepare=own_key),
    Case("8.4", "7", "the same person", validating("Someone@Example.com "), json=success(True), prepare=later),
]


def recorded(stage: Stage, _: Answer) -> None:
    (optout,) = stage.sink.recorded
    assert (optout.email, optout.phone, optout.client_ip, optout.trace_id) == (EMAIL["email"], None, "192.0.2.7", "t")
    assert stage.document(GENERATE, EMAIL) == OPTED_OUT


def nothing_kept(stage: Stage, _: Answer) -> None:
    assert stage.document(GENERATE, EMAIL)["status"] == "success"


def failing(stage: Stage) -> None:
    stage.sink.fails = True


def says_invalid(_: Stage, answer: Answer) -> None:
    assert answer.document["status"] == "invalid_token"
    assert answer.document["message"].startswith("Invalid Token presented")


LOGOUT_CASES = [
    *entrance("8.5", LOGOUT),
    Case("8.5", "identity", "none", call(LOGOUT, {}), 400, LOGOUT_NULL),
    Case("8.5", "identity", "no payload", call(LOGOUT), 400, LOGOUT_NULL),
    Case("8.5", "identity", "several", call(LOGOUT, TWO), 400, LOGOUT_NULL),
    Case("8.5", "identity", "invalid", call(LOGOUT, {"email": "x"}), 400, check=says_invalid),
    Case(
        "8.5",
        "service",
        "fails",
        call(LOGOUT, EMAIL),
        500,
        text="Internal Server Error",
        prepare=failing,
        check=nothing_kept,
    ),
    Case(
        "8.5",
        "ok",
        "recorded and honoured",
        call(LOGOUT, {**EMAIL, "clientIp": "192.0.2.7"}, uid_trace_id="t"),
        json=success({"optout": "OK"}),
        check=recorded,
    ),
]

CASES = [*GENERATE_CASES, *REFRESH_CASES, *VALIDATE_CASES, *LOGOUT_CASES]
