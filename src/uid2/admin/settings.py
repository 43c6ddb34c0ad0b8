"""What a universe is and how its keys live: `admin/universe.json` in the bucket (core chapter, 11.4, 11.5, 10.2)."""

from typing import Any, Final, Literal

import msgspec

from uid2.protocol.errors import ConfigurationError

UNIVERSE: Final = "admin/universe.json"
DAY_SECONDS: Final = 86_400
LETTERS: Final = {"development": "L", "test": "T", "integ": "I", "prod": "P"}


class UniverseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`environment` marks the store: simulated enclaves are registered in `development` only. Seconds and days as the
    names say; the keys are the reference's."""

    environment: Literal["development", "test", "integ", "prod"]
    identity_scope: Literal["UID2", "EUID"] = "UID2"
    master_key_activates_in_seconds: int = DAY_SECONDS
    master_key_expires_after_seconds: int = 30 * DAY_SECONDS
    site_key_activates_in_seconds: int = DAY_SECONDS
    site_key_expires_after_seconds: int = 30 * DAY_SECONDS
    master_key_rotation_cut_off_days: int = 37
    site_key_rotation_cut_off_days: int = 37
    refresh_key_rotation_cut_off_days: int = 37
    filter_key_over_cut_off_days: bool = False
    enable_v4_raw_uid: bool = False
    private_operator_cstg: bool = False
    # Public Ed25519 keys, base64, that may sign the log of trusted enclaves.
    enclave_log_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in ("master", "site"):
            delay = getattr(self, f"{kind}_key_activates_in_seconds")
            period = getattr(self, f"{kind}_key_expires_after_seconds")
            if not 0 <= delay < period:
                raise ValueError(
                    f"{kind}_key_activates_in_seconds ({delay}) must be at least 0 and "
                    f"below {kind}_key_expires_after_seconds ({period})"
                )

    def prefix(self, kind: str) -> str:
        """`UID2-C-L-`: C client, O operator, X and Y public and private half of a key pair (core chapter, 10.2)."""
        return f"{self.identity_scope}-{kind}-{LETTERS[self.environment]}-"


def encode_settings(settings: UniverseSettings) -> bytes:
    return msgspec.json.format(msgspec.json.encode(settings), indent=2)


def parse_settings(data: bytes) -> UniverseSettings:
    try:
        return msgspec.json.decode(data, type=UniverseSettings)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(
            f"{UNIVERSE} cannot be used: {error}", next_step="correct the document in the store"
        ) from None


def make_settings(members: dict[str, Any]) -> UniverseSettings:
    """Settings from command-line values; ConfigurationError says what is wrong."""
    try:
        return msgspec.convert(members, UniverseSettings)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"these settings do not fit: {error}", next_step="correct the arguments") from None
