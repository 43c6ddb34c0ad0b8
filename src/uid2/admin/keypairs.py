"""Client-side key pairs (core chapter, 11.8)."""

from dataclasses import replace

from uid2.admin.change import Change
from uid2.admin.errors import not_found
from uid2.admin.key_texts import issue_key_pair
from uid2.admin.keysets import ensure_keyset
from uid2.admin.records import KEYPAIRS
from uid2.admin.sites import find_site
from uid2.protocol.cstg import load_server_private_key, load_server_public_key
from uid2.protocol.ids import Role
from uid2.protocol.keypairs import ClientSideKeypair
from uid2.protocol.secret import Secret


def add_keypair(
    change: Change, site_id: int, *, name: str = "", contact: str = "", disabled: bool = False
) -> ClientSideKeypair:
    """A new pair and subscription id; the site gets a default keyset when it has none."""
    site = find_site(change, site_id).id
    known = {keypair.subscription_id for keypair in change.records(KEYPAIRS)}
    texts = issue_key_pair(change.settings, change.draw)
    while texts.subscription_id in known:
        texts = issue_key_pair(change.settings, change.draw)
    keypair = ClientSideKeypair(
        subscription_id=texts.subscription_id,
        site_id=site,
        public_key_text=texts.public_key,
        private_key_text=Secret(texts.private_key.encode()),
        public_key=load_server_public_key(texts.public_key),
        private_key=load_server_private_key(texts.private_key),
        contact=contact,
        created=change.now,
        disabled=disabled,
        name=name,
    )
    change.replace(KEYPAIRS, (*change.records(KEYPAIRS), keypair))
    ensure_keyset(change, site, frozenset({Role.GENERATOR}))
    return keypair


def find_keypair(change: Change, subscription_id: str) -> ClientSideKeypair:
    for keypair in change.records(KEYPAIRS):
        if keypair.subscription_id == subscription_id:
            return keypair
    raise not_found(f"the key pair {subscription_id}", "list them: uid2 admin keypair list")


def update_keypair(
    change: Change,
    subscription_id: str,
    *,
    contact: str | None = None,
    disabled: bool | None = None,
    name: str | None = None,
) -> ClientSideKeypair:
    keypair = find_keypair(change, subscription_id)
    updated = replace(
        keypair,
        contact=keypair.contact if contact is None else contact,
        disabled=keypair.disabled if disabled is None else disabled,
        name=keypair.name if name is None else name,
    )
    keypairs = change.records(KEYPAIRS)
    change.replace(KEYPAIRS, (updated if o.subscription_id == subscription_id else o for o in keypairs))
    return updated


def delete_keypair(change: Change, subscription_id: str) -> ClientSideKeypair:
    keypair = find_keypair(change, subscription_id)
    change.replace(KEYPAIRS, (o for o in change.records(KEYPAIRS) if o.subscription_id != subscription_id))
    return keypair
