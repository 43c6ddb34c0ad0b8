"""Who counts as opted out: the test identities and the order of the decision (tokens chapter, section 3).

1. on refresh only, refresh-optout identities are opted out
2. validate and refresh-optout identities are not opted out, whatever the opt-out data say
3. optout identities are opted out
4. otherwise the opt-out data decide: an entry with a time above 0
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from uid2.protocol.identity import first_level_hash
from uid2.protocol.ids import FirstLevelHash, IdentityScope, IdentityType
from uid2.protocol.normalize import InputKind, identity_hash_from

VALIDATE: Final = ("validate@example.com", "+12345678901")
OPTOUT: Final = ("optout@example.com", "+00000000000")
REFRESH_OPTOUT: Final = ("refresh-optout@example.com", "+00000000002")

Named = tuple[IdentityScope, IdentityType, FirstLevelHash]


class OptOuts(Protocol):
    """The opt-out data: epoch seconds of the opt-out of a first-level hash, 0 when there is none."""

    def timestamp_of_hash(self, flh: FirstLevelHash, /) -> int: ...


@dataclass(frozen=True, slots=True)
class SpecialIdentities:
    """The test identities under one first-level salt, as (scope, type, first-level hash)."""

    never_opted_out: frozenset[Named] = field(repr=False)
    always_opted_out: frozenset[Named] = field(repr=False)
    opted_out_on_refresh: frozenset[Named] = field(repr=False)


@lru_cache(maxsize=8)
def special_identities(scope: IdentityScope, first_level_salt: str) -> SpecialIdentities:
    """The test identities of an operator; remembered, since the salt changes about never."""

    def named(texts: Iterable[str]) -> frozenset[Named]:
        kinds = (InputKind.EMAIL, InputKind.PHONE)
        return frozenset(_named(scope, kind, text, first_level_salt) for kind, text in zip(kinds, texts, strict=True))

    on_refresh = named(REFRESH_OPTOUT)
    return SpecialIdentities(named(VALIDATE) | on_refresh, named(OPTOUT), on_refresh)


def is_opted_out(identity: Named, special: SpecialIdentities, optouts: OptOuts, *, refreshing: bool = False) -> bool:
    """The decision for one identity; `refreshing` for token/refresh."""
    if refreshing and identity in special.opted_out_on_refresh:
        return True
    if identity in special.never_opted_out:
        return False
    return identity in special.always_opted_out or optouts.timestamp_of_hash(identity[2]) > 0


def _named(scope: IdentityScope, kind: InputKind, text: str, first_level_salt: str) -> Named:
    identity_hash = identity_hash_from(kind, text)
    assert identity_hash is not None
    return scope, kind.identity_type, first_level_hash(identity_hash, first_level_salt)
