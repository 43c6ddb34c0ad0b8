"""Whole identity-map requests: the decrypted document in, the response document out.

Rules: operator API chapter, sections 6, 7, 10.1 and 10.2.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from hashlib import sha256
from typing import Any, Final

import msgspec
from pybase64 import b64encode, b64encode_as_string

from uid2.bulk.optout_view import OptOutView
from uid2.bulk.salt_table import SaltTable
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ClientInputError
from uid2.protocol.identity import (
    DAY_MS,
    PREVIOUS_UID_DAYS,
    bucket_index,
    previous_raw_uid,
    raw_uid,
    raw_uid_version,
    refresh_from,
)
from uid2.protocol.ids import Environment, EpochMillis, FirstLevelHash, IdentityScope, IdentityType, RawUidVersion
from uid2.protocol.json_text import parse_object, text_of
from uid2.protocol.normalize import InputKind, hasher_of
from uid2.protocol.salts import SaltBucket

OPTED_OUT: Final = "optout"
INVALID: Final = "invalid identifier"
KINDS: Final = (InputKind.EMAIL, InputKind.EMAIL_HASH, InputKind.PHONE, InputKind.PHONE_HASH)
PHONES: Final = (InputKind.PHONE, InputKind.PHONE_HASH)


# Reason, raw UID, previous raw UID, refresh time in milliseconds, row, version.
_Outcome = tuple[str | None, str | None, str | None, int, int, RawUidVersion]
_INVALID: Final[_Outcome] = (INVALID, None, None, 0, -1, RawUidVersion.V2)
_OPTED_OUT: Final[_Outcome] = (OPTED_OUT, None, None, 0, -1, RawUidVersion.V2)


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
    for reason, uid, previous, refresh, row, version in _outcomes(kind, texts, salts, optouts, options, True):
        yield MappedRow(uid, reason, previous, refresh, row, version)


def map_request(body: bytes, shape: Shape, salts: SaltTable, optouts: OptOutView, options: MapOptions) -> MapResult:
    """The response of a whole request; MapRequestError says what is wrong with it."""
    try:
        members = parse_object(body)
    except ValueError:
        raise MapRequestError(Problem.INVALID_JSON) from None
    counts = {kind: FieldCounts() for kind in KINDS}
    versions = dict.fromkeys(RawUidVersion, 0)

    def outcomes(kind: InputKind, texts: list[str | None]) -> list[_Outcome]:
        found = list(_outcomes(kind, texts, salts, optouts, options, shape is Shape.V3))
        reasons = Counter(outcome[0] for outcome in found)
        counts[kind] = FieldCounts(len(found), reasons[None], reasons[INVALID], reasons[OPTED_OUT])
        for version, number in Counter(outcome[5] for outcome in found if outcome[0] is None).items():
            versions[version] += number
        return found

    answer: dict[str, Any]
    if shape is Shape.V3:
        answer = {
            kind.value: [
                {"u": uid, "p": previous, "r": refresh // 1000} if reason is None else {"e": reason}
                for reason, uid, previous, refresh, _, _ in outcomes(kind, texts)
            ]
            for kind, texts in _v3_inputs(members).items()
        }
    else:
        kind, texts = _v2_input(members, options.phone_support)
        rows = list(zip(texts, outcomes(kind, texts), strict=True))
        answer = {
            "mapped": [
                {"identifier": text, "advertising_id": found[1], "bucket_id": salts.bucket_id(found[4])}
                for text, found in rows
                if found[0] is None
            ]
        }
        unmapped = [{"identifier": text, "reason": found[0]} for text, found in rows if found[0] is not None]
        if unmapped:
            answer["unmapped"] = unmapped
    document = msgspec.json.encode({"body": answer, "status": "success"})
    return MapResult(document, counts, versions)


def _outcomes(
    kind: InputKind,
    texts: Iterable[str | None],
    salts: SaltTable,
    optouts: OptOutView,
    options: MapOptions,
    with_previous: bool,
) -> Iterator[_Outcome]:
    # One loop without objects of its own per row: the reference serves where the native module is missing.
    identity_type, size, now = kind.identity_type, salts.size, options.now
    identity_hash_of, opted_out_at, salted_row = hasher_of(kind), optouts.finder(), salts.salted_row
    first_level = salts.first_level_salt.encode()
    prefix = bytes((options.scope << 4 | identity_type << 2,)) if options.identity_v3 else b""
    salted_version = RawUidVersion.V3 if options.identity_v3 else RawUidVersion.V2
    always, never = options.always_opted_out, options.never_opted_out
    tomorrow = (now // DAY_MS + 1) * DAY_MS
    updated_after = now - PREVIOUS_UID_DAYS * DAY_MS
    for text in texts:
        identity_hash = None if text is None else identity_hash_of(text)
        if identity_hash is None:
            yield _INVALID
            continue
        flh = FirstLevelHash(sha256(b64encode(identity_hash) + first_level).digest())
        if (opted_out_at(flh) > 0 or (identity_type, flh) in always) and (identity_type, flh) not in never:
            yield _OPTED_OUT
            continue
        row = bucket_index(flh, size)
        salted = salted_row(row)
        if salted is None:
            yield _from_bucket(row, salts.bucket(row), flh, identity_type, options, with_previous)
            continue
        salt, updated, refresh = salted
        flh_text = b64encode(flh)
        uid = b64encode_as_string(prefix + sha256(flh_text + salt).digest())
        previous = None
        if with_previous and updated > updated_after:
            previous_salt = salts.previous_salt(row)
            if previous_salt is not None:
                previous = b64encode_as_string(prefix + sha256(flh_text + previous_salt).digest())
        yield None, uid, previous, refresh if refresh >= now else tomorrow, row, salted_version


def _from_bucket(
    row: int,
    bucket: SaltBucket,
    flh: FirstLevelHash,
    identity_type: IdentityType,
    options: MapOptions,
    with_previous: bool,
) -> _Outcome:
    common = (flh, bucket, options.scope, identity_type, options.environment, options.identity_v3)
    uid = raw_uid(*common)
    previous = previous_raw_uid(*common, options.now) if with_previous else None
    return (
        None,
        encode_base64(uid),
        None if previous is None else encode_base64(previous),
        refresh_from(bucket, options.now),
        row,
        raw_uid_version(uid),
    )


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
