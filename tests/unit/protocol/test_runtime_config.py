import json
from pathlib import Path

import pytest

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment
from uid2.protocol.runtime_config import parse_runtime_config, parse_runtime_config_document

STORES = Path(__file__).parents[2] / "vectors" / "stores"
GOOD: dict[str, object] = {
    "identity_token_expires_after_seconds": 3600,
    "refresh_token_expires_after_seconds": 86400,
    "refresh_identity_token_after_seconds": 900,
    "sharing_token_expiry_seconds": 2592000,
    "identity_environment": "Integ",
    "another": True,
}


def test_defaults() -> None:
    config = parse_runtime_config(GOOD)
    assert config.identity_environment is Environment.INTEG
    assert (config.max_bidstream_lifetime_seconds, config.max_sharing_lifetime_seconds) == (3600, 2592000)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"identity_token_expires_after_seconds": None, "identity_environment": None},
         "identity_token_expires_after_seconds is required"),
        ({"refresh_token_expires_after_seconds": None}, "refresh_token_expires_after_seconds is required"),
        ({"refresh_identity_token_after_seconds": None}, "refresh_identity_token_after_seconds is required"),
        ({"refresh_token_expires_after_seconds": 3599, "refresh_identity_token_after_seconds": 9999},
         "refresh_token_expires_after_seconds (3599) must be >= identity_token_expires_after_seconds (3600)"),
        ({"refresh_identity_token_after_seconds": 3601},
         "identity_token_expires_after_seconds (3600) must be >= refresh_identity_token_after_seconds (3601)"),
        ({"max_bidstream_lifetime_seconds": 3599, "sharing_token_expiry_seconds": None},
         "max_bidstream_lifetime_seconds (3599) must be >= identity_token_expires_after_seconds (3600)"),
        ({"sharing_token_expiry_seconds": None, "identity_environment": None},
         "sharing_token_expiry_seconds is required"),
        ({"identity_environment": None}, "identity_environment is required"),
        ({"identity_environment": "moon"}, "identity_environment must be one of test, integ, prod"),
        ({"sharing_token_expiry_seconds": "5"}, "sharing_token_expiry_seconds must be a whole number of seconds"),
        ({"max_sharing_lifetime_seconds": True}, "max_sharing_lifetime_seconds must be a whole number of seconds"),
    ],
)  # fmt: skip
def test_first_violation_is_named(change: dict[str, object], text: str) -> None:
    with pytest.raises(StoreFormatError) as raised:
        parse_runtime_config({**GOOD, **change})
    assert str(raised.value) == text


def test_documents() -> None:
    version, config = parse_runtime_config_document((STORES / "runtime_config" / "metadata.json").read_bytes())
    assert (version, config.identity_environment) == (1, Environment.TEST)
    for broken in ({"runtime_config": GOOD}, {"version": 1}, [], {"version": "1", "runtime_config": GOOD}):
        with pytest.raises(StoreFormatError):
            parse_runtime_config_document(json.dumps(broken).encode())
