"""Are the stores of a state folder whole? Asked before Core serves them: an operator would wait for better ones."""

from pathlib import Path

from uid2.protocol.errors import ConfigurationError, StoreFormatError, StoreUnavailableError
from uid2.protocol.ids import EpochMillis
from uid2.stores.kinds import ALL_KINDS
from uid2.stores.loading import StoreLoader
from uid2.stores.sources.local import LocalSource


def check_stores(bucket: Path, now: EpochMillis) -> None:
    """ConfigurationError names file, record and field. Salts are left to operators: there may be a million."""
    source = LocalSource(bucket)
    for kind in ALL_KINDS.values():
        if kind.parse is None:
            continue
        try:
            StoreLoader(kind, source, f"{kind.name}/metadata.json", lambda: now).fetch(None, {})
        except (StoreFormatError, StoreUnavailableError) as error:
            raise ConfigurationError(
                f"the demo stores in {bucket} are broken: {error.message}",
                next_step=f"repair the file, or remove {bucket}; the next start then makes new stores",
            ) from None
