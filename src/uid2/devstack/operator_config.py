"""The configuration of a development operator, in the documented keys (operator API chapter, 15.2)."""

from pathlib import Path
from typing import Final

from uid2.devstack.demo_data import STORE_PREFIX
from uid2.devstack.state import State

STORES: Final = (
    "clients",
    "keysets",
    "keyset_keys",
    "salts",
    "sites",
    "client_side_keypairs",
    "services",
    "service_links",
    "runtime_config",
)


def operator_config(state: State, folder: Path) -> dict[str, object]:
    """The members of a configuration file for an operator on the demo stores, its own data under `folder`."""
    return {
        "environment": "development",
        "identity_scope": state.credentials.identity_scope,
        "storage_mock": True,
        "storage_mock_root": str(state.stores),
        **{f"{store}_metadata_path": f"{STORE_PREFIX}{store}/metadata.json" for store in STORES},
        "enable_remote_config": True,
        "client_side_token_generate": True,
        "validate_service_links": True,
        "optout_status_api_enabled": True,
        "optout_data_dir": str(folder / "optout"),
        "optout_s3_folder": "optout/",
        "uid_instance_id_prefix": "local-operator",
        "http_host": "127.0.0.1",
    }
