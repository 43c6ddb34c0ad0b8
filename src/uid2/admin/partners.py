"""Partners that opt-outs are forwarded to (core chapter, 11.12 and 9.14)."""

from collections.abc import Iterable

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.records import PARTNERS
from uid2.protocol.partners import Partner, encode_partners, parse_partners


def add_partner(change: Change, partner: Partner) -> Partner:
    partners = change.records(PARTNERS)
    if any(_same(other, partner.name) for other in partners):
        raise RefusedError(f"there is a partner named {partner.name}", status=409, next_step="update it instead")
    change.replace(PARTNERS, (*partners, _checked(partner)))
    return partner


def find_partner(change: Change, name: str) -> Partner:
    for partner in change.records(PARTNERS):
        if _same(partner, name):
            return partner
    raise not_found(f"the partner {name}", "list them: uid2 admin partner list")


def update_partner(change: Change, partner: Partner) -> Partner:
    """Replace the partner of the same name."""
    find_partner(change, partner.name)
    partners = change.records(PARTNERS)
    change.replace(PARTNERS, (_checked(partner) if _same(other, partner.name) else other for other in partners))
    return partner


def delete_partner(change: Change, name: str) -> Partner:
    partner = find_partner(change, name)
    change.replace(PARTNERS, (other for other in change.records(PARTNERS) if not _same(other, name)))
    return partner


def replace_partners(change: Change, partners: Iterable[Partner]) -> tuple[Partner, ...]:
    """The whole list at once. StoreFormatError: two of one name, or a record that is none."""
    wanted = parse_partners(encode_partners(partners))
    change.replace(PARTNERS, wanted)
    return wanted


def _checked(partner: Partner) -> Partner:
    return parse_partners(encode_partners([partner]))[0]


def _same(partner: Partner, name: str) -> bool:
    return partner.name.lower() == name.lower()
