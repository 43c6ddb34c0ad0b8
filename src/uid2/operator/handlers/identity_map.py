"""POST /v2/identity/map and /v3/identity/map (operator chapter, 10.1 and 10.2)."""

from typing import Final

from uid2.bulk.mapping import MapOptions, MapRequestError, MapResult, Problem, Shape
from uid2.operator.context import OperatorContext
from uid2.operator.enveloped import EnvelopedCall, Outcome, refused
from uid2.operator.problems import client_error, unauthorized
from uid2.operator.service_links import LinkLabels, accept_link
from uid2.operator.single_identity import missing_identity_text
from uid2.protocol.errors import ClientInputError
from uid2.protocol.ids import FirstLevelHash, IdentityType
from uid2.protocol.normalize import InputKind

PATHS: Final = {Shape.V2: "/v2/identity/map", Shape.V3: "/v3/identity/map"}
_V3_MISSING: Final = "Required Parameter Missing: one or more of [{}] must be specified"


async def map_identities_v2(call: EnvelopedCall) -> Outcome:
    """One field of identifiers, answered as `mapped` and `unmapped`."""
    return await _map(call, Shape.V2)


async def map_identities_v3(call: EnvelopedCall) -> Outcome:
    """Any fields, answered element by element."""
    return await _map(call, Shape.V3)


async def _map(call: EnvelopedCall, shape: Shape) -> Outcome:
    phone_support = call.context.settings.enable_phone_support
    if not call.payload:
        return refused(client_error(_missing_text(shape, phone_support)))
    salts = call.context.salts_in_use(call.snapshot, call.now).table
    options, optouts = _options(call), call.context.optouts
    try:
        result = await call.context.lanes.run(
            len(call.payload), lambda: call.context.engine.map_request(call.payload, shape, salts, optouts, options)
        )
    except MapRequestError as error:
        return refused(client_error(_problem_text(error, shape, phone_support)))
    # The link is looked at after the format and before anything is answered: a refusal tells nothing.
    link = accept_link(call, shape)
    if link is None:
        return refused(unauthorized("Invalid link_id"))
    _count(call.context, result, call.client.contact or "unknown", PATHS[shape], link)
    return Outcome(result.body)


def _options(call: EnvelopedCall) -> MapOptions:
    special = call.context.special_identities(call.snapshot)

    def named(
        identities: frozenset[tuple[object, IdentityType, FirstLevelHash]],
    ) -> frozenset[tuple[IdentityType, FirstLevelHash]]:
        return frozenset((identity_type, flh) for _, identity_type, flh in identities)

    return MapOptions(
        scope=call.context.settings.identity_scope,
        environment=call.snapshot.runtime_config.identity_environment,
        identity_v3=call.context.settings.identity_v3,
        phone_support=call.context.settings.enable_phone_support,
        now=call.now,
        always_opted_out=named(special.always_opted_out),
        never_opted_out=named(special.never_opted_out),
    )


def _missing_text(shape: Shape, phone_support: bool) -> str:
    if shape is Shape.V2:
        return missing_identity_text(phone_support)
    kinds = ("email", "email_hash", "phone", "phone_hash") if phone_support else ("email", "email_hash")
    return _V3_MISSING.format(", ".join(kinds))


def _problem_text(error: MapRequestError, shape: Shape, phone_support: bool) -> str:
    match error.kind:
        case Problem.INVALID_JSON:
            return "Invalid payload in body: Data is not valid json string."
        case Problem.NOT_ARRAY:
            return f"{error.field} must be an array"
        case Problem.NULL_ELEMENT:
            return f"{error.field} must not hold null (element {error.position})"
        case Problem.BAD_FORMAT:
            return "Incorrect request format"
        case Problem.NO_USABLE_FIELD | Problem.EMPTY_REQUEST:
            return _missing_text(shape, phone_support)
    raise ClientInputError("Incorrect request format")


def _count(context: OperatorContext, result: MapResult, contact: str, path: str, link: LinkLabels) -> None:
    metrics = context.metrics
    for version, number in result.versions.items():
        if number:
            metrics.count("uid2_raw_uid_version_total", number, version=version.name)
    names = {"service_name": link.service_name, "service_link_name": link.link_name}
    unmapped = 0
    for kind in InputKind:
        counts = result.counts.get(kind)
        if counts is None or not counts.inputs:
            continue
        labels = {"api_contact": contact, "path": path, "dii_type": kind.value}
        metrics.observe("uid2_operator_identity_map_inputs", counts.inputs, **labels)
        if link.present:
            metrics.observe("uid2_operator_identity_map_services_inputs", counts.inputs, **labels, **names)
        for reason, number in (("invalid", counts.invalid), ("optout", counts.opted_out)):
            if not number:
                continue
            unmapped += number
            labels = {"api_contact": contact, "reason": reason, "path": path}
            metrics.count("uid2_operator_identity_map_unmapped_total", number, **labels)
            if link.present:
                metrics.count("uid2_operator_identity_map_services_unmapped_total", number, **labels, **names)
    if unmapped:
        metrics.count("uid2_operator_identity_map_unmapped_requests_total", api_contact=contact, path=path)
