"""A universe in a folder of the test, with a clock and randomness of its own, and every operation once."""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from uid2.admin import (
    clients,
    cloud_keys,
    enclaves,
    generated_files,
    keypairs,
    keys,
    keysets,
    operators,
    partners,
    salt_store,
    services,
    sites,
)
from uid2.admin.change import Change
from uid2.admin.enclave_log import public_text
from uid2.admin.folder import Folder
from uid2.admin.local_folder import LocalFolder
from uid2.admin.settings import UniverseSettings
from uid2.admin.transaction import Universe
from uid2.admin.universe import initialise
from uid2.protocol.ids import EpochMillis, Role, SiteId
from uid2.protocol.operators import OperatorType
from uid2.protocol.partners import Partner
from uid2.protocol.sites import ClientType

NOW = 1_795_000_000_000
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
MR_ENCLAVE = "ab" * 32
SIMULATED = "00" * 8 + "cd" * 24
DAY = 86_400
TODAY = NOW // 86_400_000 * 86_400_000


class Ticking:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> EpochMillis:
        return EpochMillis(self.now_ms)

    def pass_days(self, days: float) -> None:
        self.now_ms += int(days * DAY * 1000)


def settings(**members: Any) -> UniverseSettings:
    return UniverseSettings(**({"environment": "integ", "enclave_log_keys": (public_text(LOG_KEY),)} | members))


def universe_in(folder: Folder, clock: Ticking | None = None, seed: int = 1) -> Universe:
    return Universe(folder, clock or Ticking(), random.Random(seed).randbytes)


def registrable(origin: str) -> str | None:
    host = origin.removeprefix("https://")
    return ".".join(host.split(".")[-2:]) if "." in host else None


def new_universe(root: Path, clock: Ticking | None = None, seed: int = 1, salts: int = 160, **members: Any) -> Universe:
    universe = universe_in(LocalFolder(root), clock, seed)
    universe.run(lambda change: initialise(change, settings(**members), salts))
    return universe


def populate(change: Change) -> None:
    """Two sites, a client, an operator of each kind, a service with a link, a key pair, a partner, an enclave."""
    one = sites.add_site(change, "One", types=[ClientType.PUBLISHER], registrable=registrable)
    two = sites.add_site(change, "Two", types=[ClientType.DSP], registrable=registrable)
    clients.add_client(change, "client", one.id, [Role.GENERATOR, Role.MAPPER])
    operators.add_operator(change, "private", one.id)
    operators.add_operator(change, "public", two.id, operator_type=OperatorType.PUBLIC)
    service = services.add_service(change, "service", two.id, [Role.MAPPER, Role.SHARER], "a.*")
    services.add_link(change, service.service_id, "abc", one.id, "link", [Role.MAPPER])
    keypairs.add_keypair(change, two.id, name="pair")
    partners.add_partner(change, partner("Partner"))
    enclaves.add_enclave(change, "first", enclaves.Measurement(MR_ENCLAVE, "identifier"), actor="test", key=LOG_KEY)


def partner(name: str, url: str = "https://partner.example/optout") -> Partner:
    return Partner(name, url, "GET", ("uid2=${ADVERTISING_ID}",), (), 3, 100)


# Every operation on a populated universe. The pair of site 4 is the only one.
OPERATIONS: dict[str, Callable[[Change], Any]] = {
    "site add": lambda c: sites.add_site(c, "Three", registrable=registrable),
    "site enable": lambda c: sites.enable_site(c, 3, enabled=True),
    "site types": lambda c: sites.set_types(c, 3, [ClientType.ADVERTISER]),
    "site domains": lambda c: sites.set_domain_names(c, 3, ["www.example.com"], registrable),
    "site apps": lambda c: sites.set_app_names(c, 3, ["com.example"]),
    "site update": lambda c: sites.update_site(c, 3, name="Renamed", visible=False),
    "client add": lambda c: clients.add_client(c, "sharer", 4, [Role.SHARER]),
    "client move": lambda c: clients.move_client(c, client_contact(c), 4),
    "client roles": lambda c: clients.set_client_roles(c, client_contact(c), [Role.ID_READER]),
    "client disable": lambda c: clients.enable_client(c, client_contact(c), enabled=False),
    "client rename": lambda c: clients.rename_client(c, client_contact(c), name="other", new_contact="contact"),
    "client delete": lambda c: clients.delete_client(c, client_contact(c)),
    "keyset set": lambda c: keysets.set_keyset(c, keyset_id=4, allowed_sites=[4], allowed_types=[ClientType.DSP]),
    "keyset list": lambda c: keysets.set_sharing_list(c, 3, [4]),
    "key rotate master": lambda c: keys.rotate_master(c, 1, force=True),
    "key rotate site": lambda c: keys.rotate_site(c, 3, 1, force=True),
    "key rotate all": lambda c: keys.rotate_all_sites(c, 1, force=True),
    "key rotate keyset": lambda c: keys.rotate_keyset_key(c, 4, 1, force=True),
    "salt rotate": lambda c: salt_store.rotate_salts(c, EpochMillis(TODAY + 3 * 86_400_000), Fraction(1)),
    "salt rebuild": lambda c: salt_store.rebuild_salts(c),
    "operator add": lambda c: operators.add_operator(c, "another", 3, roles=[Role.OPTOUT]),
    "operator update": lambda c: operators.update_operator(c, "private", site_id=4),
    "operator roles": lambda c: operators.set_operator_roles(c, "private", [Role.OPTOUT]),
    "operator disable": lambda c: operators.enable_operator(c, "private", enabled=False),
    "operator delete": lambda c: operators.delete_operator(c, "private"),
    "enclave add": lambda c: enclaves.add_enclave(
        c, "second", enclaves.Measurement("cd" * 32, "identifier"), actor="test", key=LOG_KEY
    ),
    "enclave remove": lambda c: enclaves.remove_enclave(c, "first", actor="test", key=LOG_KEY),
    "service add": lambda c: services.add_service(c, "other", 3, [Role.MAPPER]),
    "service update": lambda c: services.update_service(c, 1, name="renamed", disabled=True),
    "service regex": lambda c: services.remove_link_id_regex(c, 1),
    "link add": lambda c: services.add_link(c, 1, "abd", 3, "second", [Role.SHARER]),
    "link update": lambda c: services.update_link(c, 1, "abc", disabled=True),
    "link delete": lambda c: services.delete_link(c, 1, "abc"),
    "keypair add": lambda c: keypairs.add_keypair(c, 3),
    "keypair update": lambda c: keypairs.update_keypair(c, subscription(c), disabled=True),
    "keypair delete": lambda c: keypairs.delete_keypair(c, subscription(c)),
    "partner add": lambda c: partners.add_partner(c, partner("Second")),
    "partner update": lambda c: partners.update_partner(c, partner("partner", "https://other.example/")),
    "partner delete": lambda c: partners.delete_partner(c, "PARTNER"),
    "partner replace": lambda c: partners.replace_partners(c, [partner("New")]),
    "cloud-key rotate": lambda c: cloud_keys.rotate_cloud_keys(c),
    "files private": lambda c: generated_files.refresh_private_sites(c),
    "files encrypted": lambda c: generated_files.sync_encrypted_files(c),
}


def client_contact(change: Change) -> str:
    from uid2.admin.records import CLIENTS

    return str(change.records(CLIENTS)[0].contact)


def subscription(change: Change) -> str:
    from uid2.admin.records import KEYPAIRS

    return change.records(KEYPAIRS)[0].subscription_id


def site(number: int) -> SiteId:
    return SiteId(number)
