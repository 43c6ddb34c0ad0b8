"""Operator keys (core chapter, 9.7 and 3.1), lenient."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from uid2.protocol.clients import HASH_LENGTH
from uid2.protocol.ids import EpochSeconds, Role, SiteId
from uid2.protocol.store_json import RecordReader, check_unique, read_records, role_names, write_records


class OperatorType(StrEnum):
    PUBLIC = "PUBLIC"
    PRIVATE = "PRIVATE"


@dataclass(frozen=True, slots=True)
class OperatorKey:
    key_hash: str = field(repr=False)
    key_salt: str = field(repr=False)
    name: str | None
    contact: str | None
    protocol: str | None
    created: EpochSeconds
    disabled: bool
    site_id: SiteId | None
    roles: frozenset[Role]
    operator_type: OperatorType
    key_id: str | None


def parse_operators(data: bytes) -> tuple[OperatorKey, ...]:
    operators = read_records(data, _operator)
    check_unique(operators, lambda operator: operator.key_hash, "key_hash")
    return operators


def encode_operators(operators: Iterable[OperatorKey]) -> bytes:
    """The file without any clear-text key."""
    return write_records(
        {
            "key_hash": operator.key_hash,
            "key_salt": operator.key_salt,
            "name": operator.name,
            "contact": operator.contact,
            "protocol": operator.protocol,
            "created": operator.created,
            "disabled": operator.disabled,
            "roles": role_names(operator.roles),
            "site_id": operator.site_id,
            "operator_type": operator.operator_type.value,
            "key_id": operator.key_id,
        }
        for operator in operators
    )


def normalised_roles(roles: frozenset[Role]) -> frozenset[Role]:
    """OPERATOR is added unless the key is the opt-out service's."""
    return roles if Role.OPTOUT_SERVICE in roles else roles | {Role.OPERATOR}


def _operator(record: RecordReader) -> OperatorKey:
    record.decoded("key_hash", HASH_LENGTH)
    record.decoded("key_salt")
    site_id = record.optional_integer("site_id")
    return OperatorKey(
        key_hash=record.text("key_hash"),
        key_salt=record.text("key_salt"),
        name=record.optional_text("name"),
        contact=record.optional_text("contact"),
        protocol=record.optional_text("protocol"),
        created=EpochSeconds(record.long("created", 0)),
        disabled=record.boolean("disabled", False),
        site_id=None if site_id is None else SiteId(site_id),
        roles=normalised_roles(record.named_roles("roles", required=False)),
        operator_type=_operator_type(record),
        key_id=record.optional_text("key_id"),
    )


def _operator_type(record: RecordReader) -> OperatorType:
    try:
        return OperatorType(record.text("operator_type", OperatorType.PRIVATE).upper())
    except ValueError:
        raise record.wrong("operator_type", "neither PUBLIC nor PRIVATE") from None
