"""Client keys: stored as salted hashes, found by the clear key a caller presents (operator chapter, 3.2)."""

import re
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256, sha512
from typing import Final, Generic, Protocol, TypeVar, final

from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import SiteId

CACHE_ENTRIES: Final = 100_000
CACHED_KEY_LENGTH: Final = 256

_KEY_WITH_SITE: Final = re.compile(r"(?:UID2|EUID)-[CO]-[LTIP]-([0-9]+)-.{6}\..{38}")
_LARGEST_SITE: Final = 2**31 - 1
_SITE_DIGITS: Final = 10


class HashedKeyRecord(Protocol):
    """A stored record: the base64 hash and salt of its key, and its site."""

    @property
    def key_hash(self) -> str: ...
    @property
    def key_salt(self) -> str: ...
    @property
    def site_id(self) -> SiteId | None: ...


R = TypeVar("R", bound=HashedKeyRecord)


def hash_key(key: str, salt: bytes) -> str:
    """base64 of `SHA512(salt ‖ key)`, 88 characters."""
    return encode_base64(_digest(key, salt))


def site_of_key(key: str) -> SiteId | None:
    """The site id written in the key, None when the key has no such form or the number is beyond 32 bits."""
    found = _KEY_WITH_SITE.search(key)
    return None if found is None else _site(found[1])


@final
class ApiKeyIndex(Generic[R]):
    """Finds the record of a clear key.

    Results, misses included, are remembered for the CACHE_ENTRIES most recent keys, under a digest of the key.
    `lookups` counts calls of `find`, `cache_misses` those that had to hash.
    """

    __slots__ = ("_by_digest", "_cache", "_salts", "_salts_of_site", "cache_misses", "lookups")

    def __init__(self, records: Iterable[R]) -> None:
        self._by_digest: dict[bytes, R] = {}
        # Dictionaries as ordered sets: many records may share a salt.
        salts: dict[bytes, None] = {}
        of_site: dict[SiteId | None, dict[bytes, None]] = {}
        for record in records:
            salt = decode_base64(record.key_salt)
            self._by_digest[decode_base64(record.key_hash)] = record
            salts[salt] = None
            of_site.setdefault(record.site_id, {})[salt] = None
        self._salts = tuple(salts)
        self._salts_of_site = {site: tuple(members) for site, members in of_site.items()}
        self._cache: OrderedDict[bytes, R | None] = OrderedDict()
        self.lookups = 0
        self.cache_misses = 0

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, key: str) -> R | None:
        """The record whose hash the key has; a key that names a site is tried with that site's salts only."""
        self.lookups += 1
        if len(key) > CACHED_KEY_LENGTH:
            self.cache_misses += 1
            return self._search(key)
        name = sha256(_bytes(key)).digest()
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        self.cache_misses += 1
        record = self._cache[name] = self._search(key)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return record

    def _search(self, key: str) -> R | None:
        found = _KEY_WITH_SITE.search(key)
        salts = self._salts
        if found is not None:
            site = _site(found[1])
            salts = () if site is None else self._salts_of_site.get(site, ())
        for salt in salts:
            record = self._by_digest.get(_digest(key, salt))
            if record is not None:
                return record
        return None


def _site(digits: str) -> SiteId | None:
    significant = digits.lstrip("0") or "0"
    if len(significant) > _SITE_DIGITS or int(significant) > _LARGEST_SITE:
        return None
    return SiteId(int(significant))


def _digest(key: str, salt: bytes) -> bytes:
    return sha512(salt + _bytes(key)).digest()


def _bytes(key: str) -> bytes:
    # A header may hold anything; text without a UTF-8 form only has to match no record.
    return key.encode("utf-8", "surrogatepass")
