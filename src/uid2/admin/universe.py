"""A new universe: every store with what it begins with (core chapter, section 9 and 11)."""

from typing import Final

from pybase64 import b64encode

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError
from uid2.admin.keysets import create_special_keysets
from uid2.admin.records import STORES
from uid2.admin.salt_rotation import DAY_MS, SALT_LENGTH, SNAPSHOT_LIFETIME_DAYS, next_refresh
from uid2.admin.salt_store import SALTS_METADATA, SNAPSHOT_PREFIX
from uid2.admin.settings import UNIVERSE, UniverseSettings, encode_settings
from uid2.protocol.ids import EpochMillis
from uid2.protocol.salts import SaltMetadata, SaltSnapshotEntry, encode_salt_metadata
from uid2.protocol.store_json import write_json

OLDEST_DAYS: Final = 360
FIRST_BUCKET: Final = 1_000_000
MOST_SALTS: Final = 1_048_576
OPERATOR_CONFIG: Final = "operator/operator-config.json"
_BLOCK: Final = 16_384
_RUNTIME_ENVIRONMENT: Final = {"development": "test", "test": "test", "integ": "integ", "prod": "prod"}


def initialise(change: Change, settings: UniverseSettings, salts: int) -> None:
    """Settings, special keysets with active keys, `salts` salts, an operator configuration, empty stores.

    RefusedError: the folder holds a universe already, or stores of one.
    """
    if change.document(UNIVERSE) is not None or any(change.metadata(store) is not None for store in STORES):
        raise RefusedError(
            "there are stores in this folder already", status=409, next_step="name an empty folder or bucket"
        )
    if not 1 <= salts <= MOST_SALTS:
        raise RefusedError(f"the number of salts must be from 1 to {MOST_SALTS}")
    change.put_document(UNIVERSE, encode_settings(settings), "settings")
    for store in STORES:
        change.replace(store, ())
    create_special_keysets(change)
    _first_salts(change, salts)
    environment = _RUNTIME_ENVIRONMENT[settings.environment]
    change.put_document(OPERATOR_CONFIG, write_json(_operator_config(environment)), "operator configuration")


def _first_salts(change: Change, count: int) -> None:
    """One snapshot from today on.

    Last updates are spread over the year before: buckets of one day would all be due on one day, for ever.
    """
    today = change.now_ms // DAY_MS * DAY_MS
    location = change.free_name(f"{SNAPSHOT_PREFIX}{today}")
    change.put_content(
        location, b"".join(_rows(change, first, min(_BLOCK, count - first), today) for first in range(0, count, _BLOCK))
    )
    version = change.next_version(None)
    metadata = SaltMetadata(
        version=version,
        generated=int(change.now),
        first_level=b64encode(change.draw(SALT_LENGTH)).decode(),
        id_prefix="d",
        id_secret=b64encode(change.draw(SALT_LENGTH)).decode(),
        salts=(
            SaltSnapshotEntry(
                EpochMillis(today), EpochMillis(today + SNAPSHOT_LIFETIME_DAYS * DAY_MS), location, count
            ),
        ),
        key_id=None,
    )
    change.put_document(SALTS_METADATA, encode_salt_metadata(metadata), "salts", version)


def _rows(change: Change, first: int, count: int, today: int) -> bytes:
    salts, ages = change.draw(SALT_LENGTH * count), change.draw(2 * count)
    rows = []
    for i in range(count):
        age = int.from_bytes(ages[2 * i : 2 * i + 2], "big") % OLDEST_DAYS
        updated = today - age * DAY_MS
        salt = b64encode(salts[SALT_LENGTH * i : SALT_LENGTH * (i + 1)]).decode()
        due = next_refresh(updated, age)
        # The writer's rule: a last update that is a multiple of 1000 ms is written one later (11.5).
        rows.append(f"{FIRST_BUCKET + first + i},{updated + 1},{salt},{due},,,,,,,\n")
    return "".join(rows).encode()


def _operator_config(environment: str) -> dict[str, object]:
    return {
        "version": 1,
        "runtime_config": {
            "identity_token_expires_after_seconds": 3600,
            "refresh_token_expires_after_seconds": 86_400,
            "refresh_identity_token_after_seconds": 900,
            "sharing_token_expiry_seconds": 2_592_000,
            "identity_environment": environment,
        },
    }
