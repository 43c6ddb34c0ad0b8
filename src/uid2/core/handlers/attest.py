"""POST /attest: evidence in, token out (core chapter, section 4; design, 11.2 to 11.8).

A nonce is spent as soon as it is named. Then: protocol, key, operator type, evidence, answer. Each verdict is one
log line with its reason.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from uid2.core.auth import trust_refused, who
from uid2.core.context import CoreContext
from uid2.core.issuing import VERSION_HEADER, attest_response
from uid2.core.problems import ATTESTATION_FAILURE, INTERNAL_PROCESSING, RETRY_AFTER_SECONDS, problem
from uid2.core.verifiers.interface import (
    EXPLANATIONS,
    Attested,
    Evidence,
    EvidenceRefusedError,
    EvidenceUndecidedError,
    Verifier,
)
from uid2.core.verifiers.trusted import TRUSTED
from uid2.protocol.attest_messages import (
    AttestRequest,
    AttestRequestError,
    encode_attest_response,
    parse_attest_request,
)
from uid2.protocol.crypto.rsa import load_rsa_public_key
from uid2.protocol.errors import Uid2Error
from uid2.protocol.operators import OperatorKey
from uid2.service.bearer import bearer_key
from uid2.service.messages import JSON, Request, Response
from uid2.stores.kinds import ENCLAVES

WRONG_TYPE: Final = "attestation failure; invalid operator type"
UNKNOWN_PROTOCOL: Final = "protocol not found"
ACCEPTED: Final = "accepted"
NO_REASON: Final = "none"
BAD_REQUEST: Final = "bad_request"
INTERNAL: Final = "internal"
NOT_READY: Final = "not_ready"
NO_ENCLAVES: Final = "the registered enclaves are not loaded yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """`why` is for the log, the rest makes the answer."""

    status: int
    reason_code: str
    why: str
    text: str
    message: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        # Requests that were not evaluated and failures of Core are answered exactly as the reference does.
        shown = None if self.reason_code in (BAD_REQUEST, INTERNAL) else self.reason_code
        answer = problem(self.status, self.text, self.message, shown)
        if self.status == 503:
            return answer.with_headers(("retry-after", str(RETRY_AFTER_SECONDS)))
        return answer


async def attest(context: CoreContext, operator: OperatorKey, request: Request) -> Response:
    began = context.clock.monotonic()
    try:
        parsed = parse_attest_request(request.body)
    except AttestRequestError as error:
        return _refuse(context, operator, Refused(400, BAD_REQUEST, error.message, error.message))
    request.attributes["attest"] = parsed
    nonce_fits = parsed.nonce is None or context.nonces.spend(operator.key_hash, parsed.nonce)
    verifier = _checked(context, operator, parsed, nonce_fits=nonce_fits)
    if isinstance(verifier, Refused):
        return _refuse(context, operator, verifier)
    attested = await _verify(context, operator, verifier, parsed, request)
    context.metrics.observe(
        "uid2_core_attestation_duration_seconds", context.clock.monotonic() - began, protocol=operator.protocol
    )
    if isinstance(attested, Refused):
        return _refuse(context, operator, attested)
    request.attributes["enclave_id"] = attested.enclave_id
    try:
        answer = await attest_response(
            context,
            operator,
            bearer_key(request) or "",
            parsed.public_key,
            attested.enclave_id,
            request.header(VERSION_HEADER),
        )
    except (ValueError, Uid2Error) as error:
        why = error.message if isinstance(error, Uid2Error) else str(error)
        internal = Refused(500, INTERNAL, f"no answer could be made: {why}", ATTESTATION_FAILURE, INTERNAL_PROCESSING)
        return _refuse(context, operator, internal)
    _accept(context, operator, attested)
    return Response(200, encode_attest_response(answer), JSON)


def _checked(
    context: CoreContext, operator: OperatorKey, parsed: AttestRequest, *, nonce_fits: bool
) -> Verifier | Refused:
    """The verifier for a request that may be evaluated."""
    protocol = operator.protocol or ""
    verifier = context.verifiers.get(protocol)
    if verifier is None:
        return Refused(403, "unknown_protocol", f"protocol {protocol[:64]!r} is not served here", UNKNOWN_PROTOCOL)
    if trust_refused(context, operator):
        text = EXPLANATIONS["INVALID_PROTOCOL"]
        why = f"keys of protocol trusted do not serve operators in the environment {context.settings.environment}"
        return Refused(403, "trusted_refused", why, text, text)
    try:
        load_rsa_public_key(parsed.public_key)
    except ValueError as error:
        why = f"public_key is unusable: {error}"
        return Refused(400, "bad_public_key", why, ATTESTATION_FAILURE, why)
    wanted = operator.operator_type.value
    if parsed.operator_type is not None and parsed.operator_type.upper() != wanted:
        why = f"the operator says it is {parsed.operator_type[:16]!r}, its key is {wanted}"
        return Refused(403, "wrong_operator_type", why, WRONG_TYPE)
    if not nonce_fits:
        text = EXPLANATIONS["BAD_PAYLOAD"]
        return Refused(403, "bad_nonce", "the nonce is unknown, spent, expired or another operator's", text, text)
    if protocol != TRUSTED and not context.own.loaded(ENCLAVES.name):
        return Refused(503, NOT_READY, NO_ENCLAVES, ATTESTATION_FAILURE, NO_ENCLAVES)
    return verifier


async def _verify(
    context: CoreContext, operator: OperatorKey, verifier: Verifier, parsed: AttestRequest, request: Request
) -> Attested | Refused:
    evidence = Evidence(
        parsed.evidence, parsed.public_key, parsed.report_data_version, parsed.nonce, context.base_url(request)
    )
    try:
        return await verifier.verify(evidence, context.now())
    except EvidenceRefusedError as error:
        text = error.explanation
        return Refused(403, error.reason_code, error.message, text, text, error.facts)
    except EvidenceUndecidedError as error:
        why = f"{error.message}; {error.next_step}" if error.next_step else error.message
        return Refused(503, error.reason_code, why, ATTESTATION_FAILURE, error.message, error.facts)
    except Exception as error:  # noqa: BLE001 - whatever evidence provokes, Core answers and says so in its log
        _log.exception("the verifier of protocol %s failed", operator.protocol)
        return Refused(500, INTERNAL, f"the verifier failed: {type(error).__name__}", ATTESTATION_FAILURE)


def _accept(context: CoreContext, operator: OperatorKey, attested: Attested) -> None:
    _count(context, operator, ACCEPTED, NO_REASON)
    _log.info(
        "attestation accepted: %s protocol=%s %s",
        who(operator),
        operator.protocol,
        _shown(attested.facts),
        extra=_extra(operator, ACCEPTED, NO_REASON, attested.facts),
    )


def _refuse(context: CoreContext, operator: OperatorKey, refused: Refused) -> Response:
    _count(context, operator, "refused", refused.reason_code)
    _log.log(
        logging.ERROR if refused.status >= 500 else logging.WARNING,
        "attestation refused: %s protocol=%s reason_code=%s (%s) %s",
        who(operator),
        operator.protocol,
        refused.reason_code,
        refused.why,
        _shown(refused.facts),
        extra=_extra(operator, "refused", refused.reason_code, refused.facts),
    )
    return refused.response()


def _count(context: CoreContext, operator: OperatorKey, verdict: str, reason_code: str) -> None:
    protocol = operator.protocol if operator.protocol in context.verifiers else "other"
    context.metrics.count("uid2_core_attestations_total", protocol=protocol, verdict=verdict, reason_code=reason_code)


def _shown(facts: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())


def _extra(operator: OperatorKey, verdict: str, reason_code: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in facts.items() if not name.startswith("mr_")}
    return {
        "verdict": verdict,
        "reason_code": reason_code,
        "operator": operator.name,
        "key_id": operator.key_id,
        "site_id": operator.site_id,
        "protocol": operator.protocol,
        **rest,
    }
