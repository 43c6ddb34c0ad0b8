"""Which metadata an operator is given (core chapter, 8.3).

global             <dir>/metadata.json
site               <dir>/site/<site>/metadata.json
encrypted public   <dir>/encrypted/<site>_public/metadata.json
encrypted private  <dir>/encrypted/<site>_private/metadata.json
"""

from dataclasses import dataclass
from enum import Enum, auto

from uid2.protocol.ids import SiteId


class Split(Enum):
    """How a store is divided among operators."""

    NEVER = auto()
    BY_SITE = auto()
    SALTS = auto()
    """The same for everyone, encrypted per site."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the choice depends on. `site_data`: private operators get data of their own site only."""

    site_id: SiteId
    private: bool
    encrypted: bool
    site_data: bool


def metadata_path(path: str, split: Split, caller: Caller) -> str:
    """The metadata file for a caller, from the configured path of the global one."""
    if split is Split.NEVER:
        return path
    folder, _, name = path.rpartition("/")
    private = caller.private and (caller.site_data or split is Split.SALTS)
    if caller.encrypted:
        scope = f"encrypted/{caller.site_id}_{'private' if private else 'public'}"
    elif private and split is Split.BY_SITE:
        scope = f"site/{caller.site_id}"
    else:
        return path
    return f"{folder}/{scope}/{name}" if folder else f"{scope}/{name}"
