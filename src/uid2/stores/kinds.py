"""The stores of all three services: names, configuration keys and how their content is read.

`name` is the folder and the configuration prefix, `component` the name in health and metrics (core chapter, 7.3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uid2.protocol.clients import parse_clients
from uid2.protocol.cloud_keys import parse_cloud_keys
from uid2.protocol.enclaves import parse_enclaves
from uid2.protocol.keypairs import parse_client_side_keypairs
from uid2.protocol.keysets import parse_keyset_keys, parse_keysets
from uid2.protocol.operators import parse_operators
from uid2.protocol.partners import parse_partners
from uid2.protocol.services import parse_service_links, parse_services
from uid2.protocol.sites import parse_sites


@dataclass(frozen=True, slots=True)
class StoreKind:
    """`parse` reads the one content file; None for salts and the runtime configuration, which have other forms."""

    name: str
    component: str
    refresh_key: str
    encryptable: bool
    parse: Callable[[bytes], tuple[Any, ...]] | None

    @property
    def path_key(self) -> str:
        return f"{self.name}_metadata_path"


CLOUD_KEYS: Final = StoreKind(
    "cloud_encryption_keys", "cloud_encryption_keys", "cloud_encryption_keys_refresh_ms", False, parse_cloud_keys
)
CLIENTS: Final = StoreKind("clients", "auth", "auth_refresh_ms", True, parse_clients)
KEYSETS: Final = StoreKind("keysets", "keyset", "keyset_refresh_ms", True, parse_keysets)
KEYSET_KEYS: Final = StoreKind("keyset_keys", "keysetkey", "keysetkey_refresh_ms", True, parse_keyset_keys)
SALTS: Final = StoreKind("salts", "salt", "salt_refresh_ms", True, None)
SITES: Final = StoreKind("sites", "site", "site_refresh_ms", True, parse_sites)
KEYPAIRS: Final = StoreKind(
    "client_side_keypairs",
    "client_side_keypairs",
    "client_side_keypairs_refresh_ms",
    True,
    parse_client_side_keypairs,
)
SERVICES: Final = StoreKind("services", "service", "service_refresh_ms", False, parse_services)
SERVICE_LINKS: Final = StoreKind("service_links", "service_link", "service_link_refresh_ms", False, parse_service_links)
RUNTIME_CONFIG: Final = StoreKind("runtime_config", "runtime_config", "config_scan_period_ms", False, None)

OPERATORS: Final = StoreKind("operators", "operators", "operators_refresh_ms", False, parse_operators)
ENCLAVES: Final = StoreKind("enclaves", "enclaves", "enclaves_refresh_ms", False, parse_enclaves)
PARTNERS: Final = StoreKind("partners", "partners", "partners_refresh_ms", False, parse_partners)

# The operator's, in the order of the first load: the keys that decrypt the others come first.
KINDS: Final[Mapping[str, StoreKind]] = {
    kind.name: kind
    for kind in (
        CLOUD_KEYS,
        SITES,
        KEYPAIRS,
        SERVICES,
        SERVICE_LINKS,
        CLIENTS,
        KEYSET_KEYS,
        KEYSETS,
        SALTS,
        RUNTIME_CONFIG,
    )
}

# Those of every service.
ALL_KINDS: Final[Mapping[str, StoreKind]] = {
    **KINDS,
    **{kind.name: kind for kind in (OPERATORS, ENCLAVES, PARTNERS)},
}
