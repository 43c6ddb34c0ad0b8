"""Client keys (core chapter, 11.2). The clear key and the secret are given out once; the key is stored hashed only."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.key_texts import issue_key
from uid2.admin.keysets import ensure_keyset
from uid2.admin.records import CLIENTS
from uid2.admin.sites import find_site
from uid2.protocol.clients import Client
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import FALLBACK_SITE, Role, SiteId
from uid2.protocol.secret import Secret

CLIENT_ROLES: Final = (Role.GENERATOR, Role.MAPPER, Role.ID_READER, Role.SHARER, Role.OPTOUT)
SECRET_LENGTH: Final = 32
_LIST: Final = "list them: uid2 admin client list"


@dataclass(frozen=True, slots=True)
class IssuedClient:
    """`key` and `secret` as their owner needs them; they cannot be had again."""

    client: Client
    key: str = field(repr=False)
    secret: str = field(repr=False)


def add_client(change: Change, name: str, site_id: int, roles: Iterable[Role], service_id: int = 0) -> IssuedClient:
    """A new key of a site; its contact is `<site name>_<key id>`."""
    site = _owner(change, site_id)
    granted = _roles(roles)
    issued = issue_key(change.settings, "C", site, change.draw)
    secret = change.draw(SECRET_LENGTH)
    client = Client(
        key_hash=issued.key_hash,
        key_salt=issued.key_salt,
        secret=Secret(secret),
        gcm=GcmKey(secret),
        name=_text(name, "name"),
        contact=f"{find_site(change, site).name}_{issued.key_id}",
        created=change.now,
        roles=granted,
        site_id=site,
        disabled=False,
        service_id=service_id,
        key_id=issued.key_id,
    )
    change.replace(CLIENTS, (*change.records(CLIENTS), client))
    ensure_keyset(change, site, granted)
    return IssuedClient(client, issued.text, encode_base64(secret))


def find_client(change: Change, contact: str) -> Client:
    """By contact or, where that names none, by key id."""
    clients = change.records(CLIENTS)
    for client in clients:
        if client.contact == contact:
            return client
    found = [client for client in clients if client.key_id == contact]
    if len(found) != 1:
        raise not_found(f"the client key {contact}", _LIST)
    return found[0]


def move_client(change: Change, contact: str, site_id: int, service_id: int | None = None) -> Client:
    client = find_client(change, contact)
    site = _owner(change, site_id)
    moved = replace(client, site_id=site, service_id=client.service_id if service_id is None else service_id)
    ensure_keyset(change, site, client.roles)
    return _put(change, client, moved)


def set_client_roles(change: Change, contact: str, roles: Iterable[Role]) -> Client:
    client, granted = find_client(change, contact), _roles(roles)
    ensure_keyset(change, client.site_id, granted)
    return _put(change, client, replace(client, roles=granted))


def enable_client(change: Change, contact: str, *, enabled: bool) -> Client:
    client = find_client(change, contact)
    return _put(change, client, replace(client, disabled=not enabled))


def rename_client(change: Change, contact: str, *, name: str | None = None, new_contact: str | None = None) -> Client:
    client = find_client(change, contact)
    renamed = client if name is None else replace(client, name=_text(name, "name"))
    if new_contact is not None:
        wanted = _text(new_contact, "contact")
        if any(other.contact == wanted and other != client for other in change.records(CLIENTS)):
            raise RefusedError(f"the contact {wanted} is in use", status=409, next_step="choose another contact")
        renamed = replace(renamed, contact=wanted)
    return _put(change, client, renamed)


def delete_client(change: Change, contact: str) -> Client:
    client = find_client(change, contact)
    change.replace(CLIENTS, (other for other in change.records(CLIENTS) if other.key_hash != client.key_hash))
    return client


def _put(change: Change, before: Client, after: Client) -> Client:
    clients = change.records(CLIENTS)
    change.replace(CLIENTS, (after if other.key_hash == before.key_hash else other for other in clients))
    return after


def _owner(change: Change, site_id: int) -> SiteId:
    if site_id <= FALLBACK_SITE:
        raise RefusedError(f"site {site_id} belongs to the system", next_step="name a site with an id above 2")
    return find_site(change, site_id).id


def _roles(roles: Iterable[Role]) -> frozenset[Role]:
    granted = frozenset(roles)
    if not granted:
        raise RefusedError("a client key needs a role", next_step=f"choose from {', '.join(CLIENT_ROLES)}")
    foreign = sorted(granted - set(CLIENT_ROLES))
    if foreign:
        raise RefusedError(
            f"not roles of a client: {', '.join(foreign)}", next_step=f"choose from {', '.join(CLIENT_ROLES)}"
        )
    return granted


def _text(text: str, what: str) -> str:
    if not text.strip():
        raise RefusedError(f"the {what} is empty")
    return text.strip()
