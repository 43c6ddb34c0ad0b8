"""The salts that turn identities into what opt-out files hold: those of the stores that `uid2 admin` works on."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from uid2.cli.admin_session import STORE_VARIABLE, session_of
from uid2.cli.optout_place import choice_of, say, stack_scopes
from uid2.protocol.errors import ConfigurationError, StoreUnavailableError
from uid2.protocol.ids import Environment, EpochMillis, IdentityScope

if TYPE_CHECKING:
    from uid2.admin.settings import UniverseSettings
    from uid2.client.optout_rows import Salting
    from uid2.stores.snapshot import SaltSnapshots
    from uid2.stores.sources.base import BlobSource

SALTS_METADATA: Final = "salts/metadata.json"
_ENVIRONMENTS: Final = {"prod": Environment.PROD, "integ": Environment.INTEG}


class ScopeName(StrEnum):
    UID2 = "uid2"
    EUID = "euid"


class EnvironmentName(StrEnum):
    TEST = "test"
    INTEG = "integ"
    PROD = "prod"


def stores_of(context: typer.Context) -> "BlobSource":
    """The stores of `uid2 admin --store`, else those of the development stack."""
    from uid2.stores.sources.local import LocalSource
    from uid2.stores.sources.object_store import open_object_source

    url, state = session_of(context).store, choice_of(context).state
    if url:
        return open_object_source(url) if "://" in url else LocalSource(Path(url))
    for scope in stack_scopes(state):
        folder = state / f"stores-{scope}"
        if folder.is_dir():
            return LocalSource(folder)
    raise ConfigurationError(
        "no store with salts is named", next_step=f"give --store URL after `uid2 admin`, or set {STORE_VARIABLE}"
    )


def first_level_salt(stores: "BlobSource") -> str:
    """The first-level salt; nothing else of the salts is read. StoreUnavailableError, StoreFormatError."""
    from uid2.protocol.salts import parse_salt_metadata

    return parse_salt_metadata(stores.read(SALTS_METADATA), _now()).first_level


def salting_of(
    stores: "BlobSource", scope: ScopeName | None, environment: EnvironmentName | None, *, identity_v3: bool
) -> "Salting":
    """What operators make opt-outs with: the salts in force; the options, else the settings of the universe, else UID2
    and test. StoreUnavailableError, StoreFormatError."""
    from uid2.client.optout_rows import Salting

    salts, now, universe = _load_salts(stores), _now(), _universe(stores)
    if salts.expired(now):
        say("warning: the salts have expired; new ones come with: uid2 admin salt rotate")
    own_scope = "UID2" if universe is None else universe.identity_scope
    own_environment = "test" if universe is None else universe.environment
    return Salting(
        salts.first_level,
        salts.select(now).table,
        IdentityScope[own_scope if scope is None else scope.value.upper()],
        _ENVIRONMENTS.get(own_environment if environment is None else environment.value, Environment.TEST),
        identity_v3,
    )


def _load_salts(stores: "BlobSource") -> "SaltSnapshots":
    from uid2.stores.kinds import SALTS
    from uid2.stores.loading import StoreLoader

    loaded = StoreLoader(SALTS, stores, SALTS_METADATA, _now).fetch(None, {})
    assert loaded is not None, "asked without a version"
    records: SaltSnapshots = loaded.records
    return records


def _universe(stores: "BlobSource") -> "UniverseSettings | None":
    from uid2.admin.settings import UNIVERSE, parse_settings

    try:
        return parse_settings(stores.read(UNIVERSE))
    except StoreUnavailableError:
        # Stores that another program made have none.
        return None


def _now() -> EpochMillis:
    return EpochMillis(time.time_ns() // 1_000_000)
