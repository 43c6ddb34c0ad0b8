"""Core's addresses: from `core_attest_url` and the `*_metadata_path` keys (core chapter, 7.1)."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from uid2.protocol.errors import ConfigurationError

# Where Core answers when a key is not set.
DEFAULT_PATHS: Final[Mapping[str, str]] = {
    "sites": "/sites/refresh",
    "clients": "/clients/refresh",
    "client_side_keypairs": "/client_side_keypairs/refresh",
    "services": "/services/refresh",
    "service_links": "/service_links/refresh",
    "keysets": "/key/keyset/refresh",
    "keyset_keys": "/key/keyset-keys/refresh",
    "salts": "/salt/refresh",
    "cloud_encryption_keys": "/cloud_encryption_keys/retrieve",
    "runtime_config": "/operator/config",
    "operators": "/operators/refresh",
    "partners": "/partners/refresh",
}
_GUARDED: Final = ("integ", "prod")


def check_attest_url(url: str, environment: str | None) -> None:
    """ConfigurationError for an address that is none, or unencrypted where secrets are real."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.username is not None:
        raise ConfigurationError(
            "core_attest_url must be an address such as https://core.example.com/attest",
            next_step="correct core_attest_url",
        )
    if parts.scheme != "https" and environment in _GUARDED:
        raise ConfigurationError(
            f"core_attest_url must be https where environment is {environment}", next_step="use Core's https address"
        )


def origin_of(url: str) -> str:
    """Scheme and authority, no trailing slash."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def core_addresses(attest_url: str, paths: Mapping[str, str]) -> dict[str, str]:
    """The address of each store's endpoint. The operator key goes to Core alone, so every origin must be Core's."""
    origin = origin_of(attest_url)
    addresses: dict[str, str] = {}
    for store, path in paths.items():
        if path == f"{store}/metadata.json":
            addresses[store] = origin + DEFAULT_PATHS[store]
        elif path.startswith("/"):
            addresses[store] = origin + path
        elif origin_of(path).lower() == origin.lower():
            addresses[store] = path
        else:
            raise ConfigurationError(
                f"{store}_metadata_path must be an address at {origin}, where core_attest_url points",
                next_step=f"set {store}_metadata_path to {origin}{DEFAULT_PATHS[store]}",
            )
    return addresses
