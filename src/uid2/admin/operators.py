"""Operator keys (core chapter, 11.6 and 10.3)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from uid2.admin.change import Change
from uid2.admin.cloud_keys import backfill_cloud_keys
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.key_texts import issue_key
from uid2.admin.records import OPERATORS
from uid2.admin.sites import find_site
from uid2.protocol.ids import Role, SiteId
from uid2.protocol.operators import OperatorKey, OperatorType, normalised_roles

ROLE_SETS: Final = (
    frozenset({Role.OPERATOR}),
    frozenset({Role.OPERATOR, Role.OPTOUT}),
    frozenset({Role.OPTOUT_SERVICE}),
)
PROTOCOLS: Final = ("azure-sgx", "trusted")


@dataclass(frozen=True, slots=True)
class IssuedOperator:
    """`key` is the `core_api_token` of the operator; it cannot be had again."""

    operator: OperatorKey
    key: str = field(repr=False)


def add_operator(
    change: Change,
    name: str,
    site_id: int,
    *,
    protocol: str = PROTOCOLS[0],
    operator_type: OperatorType = OperatorType.PRIVATE,
    roles: Iterable[Role] = (),
) -> IssuedOperator:
    """A new key under a new name. Its site gets a cloud encryption key when it has none."""
    operators = change.records(OPERATORS)
    if not name.strip():
        raise RefusedError("an operator key needs a name")
    if any(other.name == name.strip() for other in operators):
        raise RefusedError(f"there is an operator named {name.strip()}", status=409, next_step="choose another name")
    if not protocol.strip():
        raise RefusedError("the protocol is empty", next_step=f"the protocol of this product is {PROTOCOLS[0]}")
    site = find_site(change, site_id).id
    issued = issue_key(change.settings, "O", site, change.draw)
    operator = OperatorKey(
        key_hash=issued.key_hash,
        key_salt=issued.key_salt,
        name=name.strip(),
        contact=name.strip(),
        protocol=protocol.strip(),
        created=change.now,
        disabled=False,
        site_id=SiteId(site),
        roles=_roles(roles),
        operator_type=operator_type,
        key_id=issued.key_id,
    )
    change.replace(OPERATORS, (*operators, operator))
    backfill_cloud_keys(change)
    return IssuedOperator(operator, issued.text)


def find_operator(change: Change, name: str) -> OperatorKey:
    for operator in change.records(OPERATORS):
        if operator.name == name:
            return operator
    raise not_found(f"the operator {name}", "list them: uid2 admin operator list")


def update_operator(
    change: Change, name: str, *, site_id: int | None = None, operator_type: OperatorType | None = None
) -> OperatorKey:
    operator = find_operator(change, name)
    site = operator.site_id if site_id is None else find_site(change, site_id).id
    kind = operator.operator_type if operator_type is None else operator_type
    updated = _put(change, replace(operator, site_id=site, operator_type=kind))
    backfill_cloud_keys(change)
    return updated


def set_operator_roles(change: Change, name: str, roles: Iterable[Role]) -> OperatorKey:
    return _put(change, replace(find_operator(change, name), roles=_roles(roles)))


def enable_operator(change: Change, name: str, *, enabled: bool) -> OperatorKey:
    """Core refuses a disabled key within a minute."""
    return _put(change, replace(find_operator(change, name), disabled=not enabled))


def delete_operator(change: Change, name: str) -> OperatorKey:
    operator = find_operator(change, name)
    change.replace(OPERATORS, (other for other in change.records(OPERATORS) if other.name != name))
    return operator


def _put(change: Change, operator: OperatorKey) -> OperatorKey:
    operators = change.records(OPERATORS)
    change.replace(OPERATORS, (operator if other.name == operator.name else other for other in operators))
    return operator


def _roles(roles: Iterable[Role]) -> frozenset[Role]:
    granted = normalised_roles(frozenset(roles))
    if granted not in ROLE_SETS:
        raise RefusedError(
            f"not a set of roles of an operator key: {', '.join(sorted(granted))}",
            next_step="choose OPERATOR, OPERATOR with OPTOUT, or OPTOUT_SERVICE",
        )
    return granted
