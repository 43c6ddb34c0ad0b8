"""One attestation: challenge ─▶ quote over a fresh key ─▶ /attest ─▶ unwrapped token (core chapter, section 4)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from uid2.corelink.client import CoreAnswer, CoreClient
from uid2.corelink.headers import CallerIdentity
from uid2.protocol.attest_messages import (
    AttestRequest,
    AttestResponse,
    Challenge,
    encode_attest_request,
    parse_attest_response,
    parse_challenge,
)
from uid2.protocol.crypto.rsa import RSAPrivateKey, public_der, unwrap
from uid2.protocol.errors import DependencyError, Uid2Error
from uid2.protocol.json_text import parse_object
from uid2.service.clock import Entropy
from uid2.service.rsa_keys import new_rsa_key

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

NO_EVIDENCE: Final = b"\x00"
REFUSALS: Final = (401, 403)
LONGEST_TOKEN: Final = 4096
_LONGEST_QUOTED: Final = 200


class AttestationRefusedError(Uid2Error):
    """Core has refused this program: 401 or 403. It ends at once (exit 3)."""

    code = "attestation_refused"


@dataclass(frozen=True, slots=True)
class Granted:
    """What one attestation gave."""

    token: str = field(repr=False)
    response: AttestResponse = field(repr=False)
    report_data_version: int
    skew_ms: int | None


@final
class AttestExchange:
    """`source` None means the protocol `trusted`: one zero byte is the evidence. `run` blocks."""

    def __init__(
        self,
        attest_url: str,
        client: CoreClient,
        caller: CallerIdentity,
        source: "QuoteSource | None",
        entropy: Entropy,
        new_key: Callable[[], RSAPrivateKey] = new_rsa_key,
    ) -> None:
        self._url = attest_url
        self._client = client
        self._caller = caller
        self._source = source
        self._entropy = entropy
        self._new_key = new_key

    def run(self) -> Granted:
        """AttestationRefusedError: 401 or 403. DependencyError: everything else that can be tried again."""
        key = self._new_key()
        public_key = public_der(key)
        challenge = None if self._source is None else self._challenge()
        request = AttestRequest(
            evidence=self._evidence(public_key, challenge),
            public_key=public_key,
            application_name=self._caller.application,
            application_version=self._caller.version,
            operator_type=self._caller.operator_type or None,
            components=self._caller.components,
            report_data_version=1 if challenge is None else 2,
            nonce=None if challenge is None else challenge.nonce,
        )
        answer = self._post(self._url, encode_attest_request(request))
        if answer.status != 200:
            raise self._failed("/attest", answer)
        response = parse_attest_response(answer.body)
        return Granted(_token(key, response), response, request.report_data_version, answer.skew_ms)

    def _challenge(self) -> Challenge | None:
        """The nonce for report data of version 2; None when Core knows only version 1."""
        answer = self._post(f"{self._url.rstrip('/')}/challenge", b"{}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._failed("/attest/challenge", answer)
        challenge = parse_challenge(answer.body)
        return challenge if 2 in challenge.versions else None

    def _evidence(self, public_key: bytes, challenge: Challenge | None) -> bytes:
        if self._source is None:
            return NO_EVIDENCE
        from uid2.attestation.binding import endpoint_of, report_data_v1, report_data_v2

        if challenge is None:
            report_data = report_data_v1(public_key)
        else:
            report_data = report_data_v2(public_key, challenge.nonce, endpoint_of(self._url))
        try:
            return self._source.quote(report_data)
        except Uid2Error as error:
            raise DependencyError(f"no quote could be made: {error.message}", next_step=error.next_step) from None
        except Exception as error:  # noqa: BLE001 - a driver may fail in any way; it is tried again
            raise DependencyError(
                f"no quote could be made: {type(error).__name__}", next_step="check the quoting service of this machine"
            ) from None

    def _post(self, url: str, body: bytes) -> CoreAnswer:
        headers = {**self._caller.headers(self._entropy), "Content-Type": "application/json"}
        return self._client.post(url, headers, body)

    def _failed(self, endpoint: str, answer: CoreAnswer) -> Uid2Error:
        said = _said(answer.body)
        if answer.status not in REFUSALS:
            return DependencyError(
                f"Core answered {answer.status} to {endpoint}{said}",
                next_step="look into Core's log; it is tried again",
            )
        return AttestationRefusedError(
            f"Core refused the attestation: {answer.status} from {endpoint}{said}", next_step=self._advice(answer)
        )

    def _advice(self, answer: CoreAnswer) -> str:
        if answer.status == 401:
            return "check core_api_token and that the operator key is enabled"
        if self._source is None:
            return "check that the operator key has the protocol trusted and the right type and roles, and Core's log"
        return "check that this enclave is registered, that the operator key has its protocol and type, and Core's log"


def _token(key: RSAPrivateKey, response: AttestResponse) -> str:
    """The token in clear. A foreign ciphertext decrypts to random bytes, so its form is checked."""
    wrapped = response.attestation_token
    try:
        token = wrapped if wrapped.endswith(b"-g") and wrapped.isascii() else unwrap(key, wrapped)
        text = token.decode("ascii")
    except ValueError:
        text = ""
    printable = all(0x21 <= ord(character) < 0x7F for character in text)
    if not text or not printable or len(text) > LONGEST_TOKEN or text.count("-") != 2:
        raise DependencyError(
            "Core's answer to /attest holds a token that was not wrapped for our key",
            next_step="check that nothing between this program and Core keeps or changes answers",
        )
    return text


def _said(body: bytes) -> str:
    """What Core says of its refusal, cut and without control characters."""
    try:
        document = parse_object(body[: 64 << 10])
    except ValueError:
        return ""
    parts: list[str] = []
    for name in ("status", "message", "reason", "reason_code"):
        value = document.get(name)
        if isinstance(value, str) and value not in parts:
            parts.append(value)
    text = "".join(character if character.isprintable() else " " for character in "; ".join(parts))
    return f" ({text[:_LONGEST_QUOTED]})" if text else ""
