"""A small client of the operator's API, for the command line, checks and tests."""

import email.utils
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from uid2.client.answers import (
    BidstreamKeys,
    Bucket,
    MapV2,
    MapV3,
    OptOutStatus,
    SharingKeys,
    SiteKey,
    TokenAnswer,
    TokenBody,
)
from uid2.client.refusal import OperatorRefusalError, OperatorUnreachableError
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.envelope import NONCE_LENGTH, open_response, seal_request
from uid2.protocol.errors import ConfigurationError, InternalTokenError
from uid2.protocol.ids import EpochMillis
from uid2.stores.tls import trusted_roots

IV_LENGTH: Final = 12
KEY_LENGTH: Final = 32
TIMEOUT_SECONDS: Final = 60.0
RETRIES_OF_BUSY: Final = 5
LONGEST_WAIT_SECONDS: Final = 30.0
BINARY: Final = "application/octet-stream"
VERSION_HEADER: Final = {"X-UID2-Client-Version": "uid2-command-line"}

T = TypeVar("T")


class OperatorClient:
    """Calls one operator with one client key; usable as a context manager.

    Every call raises OperatorUnreachableError when no answer comes, OperatorRefusalError when the status is not 200.
    A 429 is tried again after its Retry-After, at most RETRIES_OF_BUSY times.
    """

    def __init__(
        self,
        url: str,
        key: str,
        secret: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`secret`: base64 of 32 bytes; ConfigurationError when it is not, or when the URL is not one."""
        self._gcm = GcmKey(_secret_bytes(secret))
        self._authorization = {"Authorization": f"Bearer {key}", **VERSION_HEADER}
        self._sleep = sleep
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError("the operator's address is not a URL", next_step="use http://HOST:PORT")
        self._http = httpx.Client(
            base_url=url, transport=transport, verify=trusted_roots(), timeout=TIMEOUT_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def generate(self, members: Mapping[str, str]) -> TokenAnswer:
        """`members`: one of `email`, `email_hash`, `phone`, `phone_hash`, with `tcf_consent_string` where needed."""
        return _token_answer(self._enveloped("/v2/token/generate", members))

    def refresh(self, token: TokenBody) -> TokenAnswer:
        """Refreshes without the client key, as a browser does; the answer is opened with the token's response key."""
        answer = self._post("/v2/token/refresh", token.refresh_token.encode(), VERSION_HEADER)
        key = GcmKey(decode_base64(token.refresh_response_key))
        try:
            plaintext = key.open(decode_base64(answer.content))
        except (ValueError, InternalTokenError):
            raise OperatorRefusalError(
                200, "unknown", "the answer is not encrypted with the token's response key"
            ) from None
        return _token_answer(_document(plaintext))

    def validate(self, token: str, members: Mapping[str, str]) -> bool:
        return self._body("/v2/token/validate", {**members, "token": token}, bool)

    def logout(self, members: Mapping[str, str]) -> None:
        self._enveloped("/v2/token/logout", members)

    def map_v2(self, field: str, values: Sequence[str]) -> MapV2:
        return self._body("/v2/identity/map", {field: values}, MapV2)

    def map_v3(self, members: Mapping[str, Sequence[str]]) -> MapV3:
        return self._body("/v3/identity/map", members, MapV3, binary=True)

    def buckets(self, since: str) -> list[Bucket]:
        """`since`: UTC as `yyyy-MM-ddTHH:mm:ss`."""
        return self._body("/v2/identity/buckets", {"since_timestamp": since}, list[Bucket])

    def sharing_keys(self) -> SharingKeys:
        return self._body("/v2/key/sharing", None, SharingKeys)

    def bidstream_keys(self) -> BidstreamKeys:
        return self._body("/v2/key/bidstream", None, BidstreamKeys)

    def latest_keys(self) -> list[SiteKey]:
        return self._body("/v2/key/latest", None, list[SiteKey])

    def optout_status(self, raw_uids: Sequence[str]) -> OptOutStatus:
        return self._body("/v2/optout/status", {"advertising_ids": raw_uids}, OptOutStatus)

    def _body(self, path: str, payload: object, kind: type[T], *, binary: bool = False) -> T:
        document = self._enveloped(path, payload, binary=binary)
        try:
            return msgspec.convert(document.get("body"), kind)
        except msgspec.ValidationError as error:
            raise OperatorRefusalError(
                200, "unknown", f"the answer of {path} has an unexpected form: {error}"
            ) from None

    def _enveloped(self, path: str, payload: object, *, binary: bool = False) -> dict[str, Any]:
        data = b"" if payload is None else msgspec.json.encode(payload)
        nonce = secrets.token_bytes(NONCE_LENGTH)
        now = EpochMillis(time.time_ns() // 1_000_000)
        envelope = seal_request(data, nonce, now, self._gcm, secrets.token_bytes(IV_LENGTH))
        headers = {**self._authorization, "Content-Type": BINARY if binary else "text/plain"}
        answer = self._post(path, envelope if binary else encode_base64(envelope).encode(), headers)
        try:
            opened = open_response(answer.content if binary else decode_base64(answer.content), self._gcm)
        except (ValueError, InternalTokenError):
            raise OperatorRefusalError(
                200, "unknown", "the answer is not an envelope of this client's secret"
            ) from None
        if not secrets.compare_digest(opened.nonce, nonce):
            raise OperatorRefusalError(200, "unknown", "the answer belongs to another request")
        return _document(opened.payload)

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        for attempt in range(RETRIES_OF_BUSY + 1):
            try:
                answer = self._http.post(path, content=body, headers=dict(headers))
            except httpx.HTTPError as error:
                raise OperatorUnreachableError(str(self._http.base_url), type(error).__name__) from None
            if answer.status_code == httpx.codes.OK:
                return answer
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or attempt == RETRIES_OF_BUSY:
                break
            self._sleep(_retry_after(answer.headers.get("retry-after", "")))
        raise OperatorRefusalError.of(answer)


def _secret_bytes(secret: str) -> bytes:
    try:
        data = decode_base64(secret)
    except ValueError:
        data = b""
    if len(data) != KEY_LENGTH:
        raise ConfigurationError("the client secret is not base64 of 32 bytes", next_step="copy it again, whole")
    return data


def _retry_after(text: str) -> float:
    """Seconds to wait: a number or an HTTP date; 1 when it is neither, never more than LONGEST_WAIT_SECONDS."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            seconds = 1.0
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _token_answer(document: dict[str, Any]) -> TokenAnswer:
    status = str(document.get("status"))
    if status != "success":
        return TokenAnswer(status)
    try:
        return TokenAnswer(status, msgspec.convert(document.get("body"), TokenBody))
    except msgspec.ValidationError as error:
        raise OperatorRefusalError(200, "unknown", f"the token body has an unexpected form: {error}") from None


def _document(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        raise OperatorRefusalError(200, "unknown", "the answer is not a JSON object") from None
