"""Freshly generated stores of a development stack: own keys and salts, nothing published.

The folder is Core's bucket, and as `storage_mock_root` it serves an operator alone:

    DIR/<store>/metadata.json     and the content files the metadata names
    DIR/credentials.json          the one client of the stack, mode 0600

Keys and salts stay valid for `LIFETIME_DAYS`, so the folder can be kept across restarts.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.devstack.demo_salts import write_salts
from uid2.devstack.key_texts import KeyPairText, draw_key_pair, draw_key_text
from uid2.protocol.api_keys import hash_key
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import (
    FALLBACK_KEYSET,
    FALLBACK_SITE,
    MASTER_KEYSET,
    MASTER_SITE,
    REFRESH_KEYSET,
    REFRESH_SITE,
    EpochMillis,
    SiteId,
)

LIFETIME_DAYS: Final = 545
NEXT_KEY_DAYS: Final = 180
DAY_SECONDS: Final = 86_400
DEMO_SITE: Final = SiteId(123)
PARTNER_SITE: Final = SiteId(124)
SERVICE_SITE: Final = SiteId(125)
OPERATOR_SITE: Final = SiteId(126)
# Where an operator alone reads it, and where Core does.
RUNTIME_CONFIG_PLACES: Final = ("runtime_config/metadata.json", "operator/operator-config.json")
CLIENT_ROLES: Final = ("GENERATOR", "MAPPER", "ID_READER", "SHARER", "OPTOUT")
KEYSETS: Final = (
    # (keyset, site, name, allowed sites; None: every ID_READER)
    (MASTER_KEYSET, MASTER_SITE, "Master", None),
    (REFRESH_KEYSET, REFRESH_SITE, "Refresh", None),
    (FALLBACK_KEYSET, FALLBACK_SITE, "Fallback Publisher", None),
    (4, DEMO_SITE, "Demo Publisher", None),
    (5, PARTNER_SITE, "Sharing Partner", [int(DEMO_SITE)]),
)

Draw = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class DemoCredentials:
    """The client that may call every endpoint, and the pair for client-side generation; texts as users write them."""

    client_key: str
    client_secret: str
    site_id: int
    subscription_id: str
    client_side_public_key: str
    identity_scope: str
    expires: int

    def __repr__(self) -> str:
        return f"DemoCredentials(site_id={self.site_id})"


def create_demo_stores(
    directory: Path, *, salts: int, draw: Draw, now: EpochMillis, scope: str = "uid2"
) -> DemoCredentials:
    """Fill the existing empty `directory`. `draw(n)` gives n random bytes; `scope` is `uid2` or `euid`."""
    seconds = now // 1000
    product = scope.upper()
    client_key = draw_key_text(f"{product}-C-L-{DEMO_SITE}-", draw)
    partner_key = draw_key_text(f"{product}-C-L-{PARTNER_SITE}-", draw)
    secret = encode_base64(draw(32))
    pair = draw_key_pair(product, draw)
    clients = [
        _client(client_key, secret, DEMO_SITE, "Demo Publisher", CLIENT_ROLES, seconds, draw),
        _client(partner_key, encode_base64(draw(32)), PARTNER_SITE, "Sharing Partner", ("SHARER",), seconds, draw),
    ]
    write_store(directory, "clients", "client_keys", clients, seconds)
    write_store(directory, "sites", "sites", _sites(seconds), seconds)
    write_store(directory, "keysets", "keysets", _keysets(seconds), seconds)
    keys = _keyset_keys(seconds, draw)
    write_store(directory, "keyset_keys", "keyset_keys", keys, seconds, {"max_key_id": len(keys)})
    write_store(directory, "services", "services", _SERVICES, seconds)
    write_store(directory, "service_links", "service_links", _SERVICE_LINKS, seconds)
    write_store(directory, "client_side_keypairs", "client_side_keypairs", [_key_pair(pair, seconds)], seconds)
    for place in RUNTIME_CONFIG_PLACES:
        write_json(directory / place, _RUNTIME_CONFIG)
    expires = seconds + LIFETIME_DAYS * DAY_SECONDS
    write_salts(directory / "salts", salts, draw=draw, now=now, expires=EpochMillis(expires * 1000))
    return DemoCredentials(
        client_key=client_key,
        client_secret=secret,
        site_id=int(DEMO_SITE),
        subscription_id=pair.subscription_id,
        client_side_public_key=pair.public_key,
        identity_scope=scope,
        expires=expires,
    )


def _client(
    key: str, secret: str, site: SiteId, name: str, roles: tuple[str, ...], created: int, draw: Draw
) -> dict[str, object]:
    salt = draw(32)
    key_id = key[: key.index(".") - 1]
    return {
        "key_hash": hash_key(key, salt),
        "key_salt": encode_base64(salt),
        "secret": secret,
        "name": name,
        "contact": f"{name}_{key_id}",
        "created": created,
        "roles": list(roles),
        "site_id": int(site),
        "disabled": False,
        "service_id": 0,
        "key_id": key_id,
    }


def _sites(created: int) -> list[dict[str, object]]:
    def site(number: SiteId, name: str, kinds: list[str], domains: list[str], apps: list[str]) -> dict[str, object]:
        return {
            "id": int(number),
            "name": name,
            "description": "",
            "enabled": True,
            "clientTypes": kinds,
            "domain_names": domains,
            "app_names": apps,
            "visible": True,
            "created": created,
        }

    return [
        site(DEMO_SITE, "Demo Publisher", ["PUBLISHER", "DSP"], ["example.com", "localhost"], ["com.example.demo"]),
        site(PARTNER_SITE, "Sharing Partner", ["ADVERTISER"], [], []),
        site(SERVICE_SITE, "Demo Service", [], [], []),
        site(OPERATOR_SITE, "Demo Operators", [], [], []),
    ]


def _keysets(created: int) -> list[dict[str, object]]:
    return [
        {
            "keyset_id": int(keyset),
            "site_id": int(site),
            "name": name,
            "allowed_sites": allowed,
            "created": created,
            "enabled": True,
            "default": True,
        }
        for keyset, site, name, allowed in KEYSETS
    ]


def _keyset_keys(now: int, draw: Draw) -> list[dict[str, object]]:
    """A key in use and a later one for each keyset; ids rise with the time of activation, as SDKs expect."""
    created = now - DAY_SECONDS
    starts = (created, now + NEXT_KEY_DAYS * DAY_SECONDS)
    return [
        {
            "id": number,
            "keyset_id": int(keyset),
            "created": created,
            "activates": start,
            "expires": start + LIFETIME_DAYS * DAY_SECONDS,
            "secret": encode_base64(draw(32)),
        }
        for number, (start, (keyset, *_)) in enumerate(((s, k) for s in starts for k in KEYSETS), start=1)
    ]


def _key_pair(pair: KeyPairText, created: int) -> dict[str, object]:
    return {
        "subscription_id": pair.subscription_id,
        "public_key": pair.public_key,
        "private_key": pair.private_key,
        "site_id": int(DEMO_SITE),
        "contact": "",
        "created": created,
        "disabled": False,
        "name": "Demo",
    }


def write_store(
    stores: Path, store: str, member: str, records: object, generated: int, extra: Mapping[str, int] | None = None
) -> None:
    write_json(stores / store / f"{store}.json", records)
    location = {"location": f"{store}/{store}.json"}
    metadata = {"version": generated * 1000, "generated": generated, **(extra or {}), member: location}
    write_json(stores / store / "metadata.json", metadata)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


_SERVICES: Final = [
    {
        "service_id": 1,
        "site_id": int(SERVICE_SITE),
        "name": "demo-service",
        "roles": ["MAPPER", "SHARER"],
        "link_id_regex": None,
        "disabled": False,
    }
]
_SERVICE_LINKS: Final = [
    {
        "link_id": "demo-link",
        "service_id": 1,
        "site_id": int(DEMO_SITE),
        "name": "Demo link",
        "roles": ["MAPPER"],
        "disabled": False,
    }
]
_RUNTIME_CONFIG: Final = {
    "version": 1,
    "runtime_config": {
        "identity_token_expires_after_seconds": 3600,
        "refresh_token_expires_after_seconds": 86_400,
        "refresh_identity_token_after_seconds": 900,
        "sharing_token_expiry_seconds": 2_592_000,
        "max_bidstream_lifetime_seconds": 3600,
        "max_sharing_lifetime_seconds": 2_592_000,
        "identity_environment": "test",
    },
}
