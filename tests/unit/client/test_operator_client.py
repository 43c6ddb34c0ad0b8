import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from uid2.client.answers import TokenBody
from uid2.client.operator import RETRIES_OF_BUSY, OperatorClient
from uid2.client.refusal import OperatorRefusalError, OperatorUnreachableError
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import open_request, seal_response
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochMillis, IdentityScope

SECRET = encode_base64(bytes(range(32)))
KEY = GcmKey(bytes(range(32)))
NOW = EpochMillis(time.time_ns() // 1_000_000)
BODY = TokenBody("A4token", "R" * 388, 3, 4, 2, encode_base64(bytes(32)))
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, waits: list[float] | None = None) -> OperatorClient:
    transport = httpx.MockTransport(answer)
    sleep = (waits if waits is not None else []).append
    return OperatorClient("http://operator", "the-key", SECRET, transport=transport, sleep=sleep)


def sealed(document: object, *, nonce: bytes | None = None) -> Answer:
    """An operator that answers every envelope with `document`."""

    def answer(request: httpx.Request) -> httpx.Response:
        binary = request.headers["content-type"] == "application/octet-stream"
        opened = open_request(
            request.content, binary, KEY, EpochMillis(time.time_ns() // 1_000_000), IdentityScope.UID2
        )
        blob = seal_response(json.dumps(document).encode(), nonce or opened.nonce, NOW, KEY, bytes(12))
        return httpx.Response(200, content=blob if binary else encode_base64(blob).encode())

    return answer


def test_generate_gives_the_body() -> None:
    document = {"status": "success", "body": {name: getattr(BODY, name) for name in BODY.__struct_fields__}}

    answer = client(sealed(document)).generate({"email": "a@example.com"})

    assert (answer.status, answer.body) == ("success", BODY)


@pytest.mark.parametrize("status", ["optout", "insufficient_user_consent"])
def test_other_statuses_have_no_body(status: str) -> None:
    answer = client(sealed({"status": status})).generate({"email": "a@example.com"})

    assert (answer.status, answer.body) == (status, None)


def test_map_v3_goes_out_as_bytes_with_the_key_as_bearer() -> None:
    seen: list[httpx.Request] = []
    document = {"body": {"email": [{"e": "optout"}], "email_hash": [], "phone": [], "phone_hash": []}}

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return sealed(document)(request)

    rows = client(answer).map_v3({"email": ["optout@example.com"]}).email

    assert rows[0].e == "optout"
    assert seen[0].headers["authorization"] == "Bearer the-key"
    assert seen[0].content[0] == 1


def test_refresh_is_opened_with_the_response_key_and_sends_no_key() -> None:
    seen: list[httpx.Request] = []
    response_key = GcmKey(decode_base64(BODY.refresh_response_key))

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, text=encode_base64(response_key.seal(bytes(12), b'{"status":"optout"}')))

    assert client(answer).refresh(BODY).status == "optout"
    assert seen[0].content == BODY.refresh_token.encode()
    assert "authorization" not in seen[0].headers


def test_an_answer_to_another_request_is_refused() -> None:
    with pytest.raises(OperatorRefusalError, match="another request"):
        client(sealed({"status": "success"}, nonce=b"8 bytes!")).generate({"email": "a@example.com"})


@pytest.mark.parametrize("content", [b"", b"not base64!", b"AAAA", encode_base64(bytes(64)).encode()])
def test_an_answer_that_is_no_envelope_is_refused(content: bytes) -> None:
    with pytest.raises(OperatorRefusalError, match="not an envelope"):
        client(lambda _: httpx.Response(200, content=content)).sharing_keys()


@pytest.mark.parametrize("body", [None, [], {"keys": 3}, {"caller_site_id": "x"}])
def test_a_body_of_another_form_is_refused(body: Any) -> None:
    with pytest.raises(OperatorRefusalError, match="unexpected form"):
        client(sealed({"status": "success", "body": body})).sharing_keys()


def test_a_busy_operator_is_asked_again_after_its_time() -> None:
    waits: list[float] = []
    answers = iter(
        [httpx.Response(429, headers={"retry-after": "3"}), httpx.Response(429, headers={"retry-after": "?"})]
    )
    document = {"status": "success", "body": {"opted_out": []}}

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers, None) or sealed(document)(request)

    assert client(answer, waits).optout_status([]).opted_out == []
    assert waits == [3.0, 1.0]


def test_an_operator_that_stays_busy_is_given_up() -> None:
    waits: list[float] = []

    with pytest.raises(OperatorRefusalError) as refusal:
        client(lambda _: httpx.Response(429, headers={"retry-after": "9999"}), waits).bidstream_keys()

    assert refusal.value.http_status == 429
    assert waits == [30.0] * RETRIES_OF_BUSY


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401, json={"status": "unauthorized"}), ["401 unauthorized", "client key"]),
        (
            httpx.Response(400, json={"status": "client_error", "message": "Invalid timestamp: Request too old"}),
            ["Invalid timestamp", "clock"],
        ),
        (
            httpx.Response(400, json={"status": "client_error", "message": "Check encryption key (ClientSecret)."}),
            ["ClientSecret", "belongs to the client key"],
        ),
        (httpx.Response(413, text="Request Too Long"), ["413", "1 MiB"]),
        (httpx.Response(500, json=[1]), ["500"]),
    ],
)
def test_a_refusal_says_what_to_do(answer: httpx.Response, words: list[str]) -> None:
    with pytest.raises(OperatorRefusalError) as refusal:
        client(lambda _: answer).generate({"email": "a@example.com"})

    for word in words:
        assert word in refusal.value.diagnosis()


def test_an_operator_that_does_not_answer() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(OperatorUnreachableError, match="http://operator does not answer"):
        client(refuse).latest_keys()


@pytest.mark.parametrize("secret", ["", "x", encode_base64(bytes(31)), "not base64"])
def test_a_malformed_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        OperatorClient("http://operator", "key", secret)

    assert not secret or secret not in refusal.value.diagnosis().split()


def test_a_token_body_hides_its_texts() -> None:
    assert BODY.advertising_token not in repr(BODY)
    assert BODY.refresh_response_key not in repr(BODY)
