"""Whole identity-map requests: the decrypted document in, the response document out.

Rules: operator API chapter, sections 6, 7, 10.1 and 10.2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec

from uid2.bulk.tables import OptOutView, SaltTable
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ClientInputError
from uid2.protocol.identity import (
    bucket_index,
    first_level_hash,
    previous_raw_uid,
    raw_uid,
    raw_uid_version,
    refresh_from,
)
from uid2.protocol.ids import Environment, EpochMillis, FirstLevelHash, IdentityScope, IdentityType, RawUidVersion
from uid2.protocol.json_text import parse_object, text_of
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.salts import SaltBucket

OPTED_OUT: Final = "optout"
INVALID: Final = "invalid identifier"
KINDS: Final = (InputKind.EMAIL, InputKind.EMAIL_HASH, InputKind.PHONE, InputKind.PHONE_HASH)
PHONES: Final = (InputKind.PHONE, InputKind.PHONE_HASH)


class Shape(Enum):
    """Of /v2/identity/map and /v3/identity/map."""

    V2 = 2
    V3 = 3


class Problem(StrEnum):
    """What is wrong with a request."""

    INVALID_JSON = "invalid_json"
    NOT_ARRAY = "not_array"
    NO_USABLE_FIELD = "no_usable_field"
    EMPTY_REQUEST = "empty_request"
    BAD_FORMAT = "bad_format"
    NULL_ELEMENT = "null_element"


class MapRequestError(ClientInputError):
    """`field` names the member and `position` the element, where the problem has them."""

    def __init__(self, kind: Problem, field: str = "", position: int = -1) -> None:
        super().__init__(f"identity map request: {kind}{f' in {field}' if field else ''}")
        self.kind, self.field, self.position = kind, field, position


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What a request is mapped under. The two sets hold (type, first-level hash) of the test identities."""

    scope: IdentityScope
    environment: Environment
    identity_v3: bool
    phone_support: bool
    now: EpochMillis
    always_opted_out: frozenset[tuple[IdentityType, FirstLevelHash]] = field(default=frozenset(), repr=False)
    never_opted_out: frozenset[tuple[IdentityType, FirstLevelHash]] = field(default=frozenset(), repr=False)


@dataclass(slots=True)
class FieldCounts:
    """Identifiers of one field by outcome."""

    inputs: int = 0
    mapped: int = 0
    invalid: int = 0
    opted_out: int = 0


@dataclass(frozen=True, slots=True)
class MapResult:
    """`body`: the response document, `{"body":…,"status":"success"}`."""

    body: bytes = field(repr=False)
    counts: dict[InputKind, FieldCounts]
    versions: dict[RawUidVersion, int]


@dataclass(frozen=True, slots=True)
class MappedRow:
    """One identifier: the raw UID and its bucket, or the reason why there is none."""

    raw_uid: str | None = field(default=None, repr=False)
    reason: str | None = None
    previous: str | None = field(default=None, repr=False)
    refresh_from: int = 0
    row: int = -1
    version: RawUidVersion = RawUidVersion.V2


def map_rows(
    kind: InputKind, texts: Iterable[str | None], salts: SaltTable, optouts: OptOutView, options: MapOptions
) -> Iterator[MappedRow]:
    """The outcome of each identifier, in order."""
    identity_type = kind.identity_type
    for text in texts:
        identity_hash = None if text is None else identity_hash_from(kind, text)
        if identity_hash is None:
            yield MappedRow(reason=INVALID)
            continue
        flh = first_level_hash(identity_hash, salts.first_level_salt)
        if _is_opted_out(identity_type, flh, optouts, options):
            yield MappedRow(reason=OPTED_OUT)
            continue
        row = bucket_index(flh, salts.size)
        yield _mapped(row, salts.bucket(row), flh, identity_type, options)


def map_request(body: bytes, shape: Shape, salts: SaltTable, optouts: OptOutView, options: MapOptions) -> MapResult:
    """The response of a whole request; MapRequestError says what is wrong with it."""
    try:
        members = parse_object(body)
    except ValueError:
        raise MapRequestError(Problem.INVALID_JSON) from None
    counts = {kind: FieldCounts() for kind in KINDS}
    versions = dict.fromkeys(RawUidVersion, 0)

    def outcomes(kind: InputKind, texts: list[str | None]) -> Iterator[MappedRow]:
        count = counts[kind]
        count.inputs += len(texts)
        for outcome in map_rows(kind, texts, salts, optouts, options):
            if outcome.reason is None:
                count.mapped += 1
                versions[outcome.version] += 1
            elif outcome.reason == OPTED_OUT:
                count.opted_out += 1
            else:
                count.invalid += 1
            yield outcome

    if shape is Shape.V3:
        answer: dict[str, Any] = {
            kind.value: [_v3_element(outcome) for outcome in outcomes(kind, texts)]
            for kind, texts in _v3_inputs(members).items()
        }
    else:
        kind, texts = _v2_input(members, options.phone_support)
        mapped: list[dict[str, str]] = []
        unmapped: list[dict[str, str | None]] = []
        for text, outcome in zip(texts, outcomes(kind, texts), strict=True):
            if outcome.raw_uid is None or text is None:
                unmapped.append({"identifier": text, "reason": outcome.reason})
            else:
                bucket_id = salts.bucket_id(outcome.row)
                mapped.append({"identifier": text, "advertising_id": outcome.raw_uid, "bucket_id": bucket_id})
        answer = {"mapped": mapped} | ({"unmapped": unmapped} if unmapped else {})
    document = msgspec.json.encode({"body": answer, "status": "success"})
    return MapResult(document, counts, versions)


def _is_opted_out(identity_type: IdentityType, flh: FirstLevelHash, optouts: OptOutView, options: MapOptions) -> bool:
    named = (identity_type, flh)
    if named in options.never_opted_out:
        return False
    return named in options.always_opted_out or optouts.timestamp_of_hash(flh) > 0


def _mapped(
    row: int, bucket: SaltBucket, flh: FirstLevelHash, identity_type: IdentityType, options: MapOptions
) -> MappedRow:
    common = (flh, bucket, options.scope, identity_type, options.environment, options.identity_v3)
    uid = raw_uid(*common)
    previous = previous_raw_uid(*common, options.now)
    return MappedRow(
        raw_uid=encode_base64(uid),
        previous=None if previous is None else encode_base64(previous),
        refresh_from=refresh_from(bucket, options.now),
        row=row,
        version=raw_uid_version(uid),
    )


def _v3_element(outcome: MappedRow) -> dict[str, str | int | None]:
    if outcome.raw_uid is None:
        return {"e": outcome.reason}
    return {"u": outcome.raw_uid, "p": outcome.previous, "r": outcome.refresh_from // 1000}


def _v2_input(members: dict[str, Any], phone_support: bool) -> tuple[InputKind, list[str | None]]:
    """The one field that is mapped: the non-empty array, else the first empty one."""
    arrays: list[tuple[InputKind, list[Any]]] = []
    for kind in KINDS:
        value = members.get(kind.value)
        if value is None or (kind in PHONES and not phone_support):
            continue
        if not isinstance(value, list):
            raise MapRequestError(Problem.NOT_ARRAY, kind.value)
        arrays.append((kind, value))
    filled = [array for array in arrays if array[1]]
    if not arrays or len(filled) > 1:
        raise MapRequestError(Problem.NO_USABLE_FIELD)
    kind, values = filled[0] if filled else arrays[0]
    if kind is not InputKind.PHONE and None in values:
        raise MapRequestError(Problem.NULL_ELEMENT, kind.value, values.index(None))
    return kind, [None if value is None else text_of(value) for value in values]


def _v3_inputs(members: dict[str, Any]) -> dict[InputKind, list[str | None]]:
    if not members:
        raise MapRequestError(Problem.EMPTY_REQUEST)
    names = {kind.value for kind in KINDS}
    for name in members:
        if name not in names:
            raise MapRequestError(Problem.BAD_FORMAT)
    inputs: dict[InputKind, list[str | None]] = {}
    for kind in KINDS:
        values = members.get(kind.value)
        if values is None:
            values = []
        if not isinstance(values, list):
            raise MapRequestError(Problem.BAD_FORMAT, kind.value)
        for position, value in enumerate(values):
            if value is None or isinstance(value, list | dict):
                raise MapRequestError(Problem.BAD_FORMAT, kind.value, position)
        inputs[kind] = [text_of(value) for value in values]
    return inputs
