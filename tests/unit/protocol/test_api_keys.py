from dataclasses import dataclass

import pytest

from uid2.protocol import api_keys
from uid2.protocol.api_keys import ApiKeyIndex, hash_key, site_of_key
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.ids import SiteId

KEY = "UID2-C-L-999-fCXrMM.fsR3mDqAXELtWWMS+xG1s7RdgRTMqdOH2qaAo="
SALT = "RvCHAXUo/1pR3Nun5HuzcRJvlC7vT6gZMmsGPzyOONA="
HASH = "FIUDeEqA+O2hW7PXdAJI/NAnJleHX+6QU46avhal5Wy4th0ZEKvG5eoFk8CFvqxGkMFlHwGG+DWTU+ZdwiHdQg=="


@dataclass(frozen=True)
class Record:
    key_hash: str
    key_salt: str
    site_id: SiteId


def _record(key: str, site_id: int, salt: bytes = b"salt") -> Record:
    return Record(hash_key(key, salt), encode_base64(salt), SiteId(site_id))


def test_known_hash() -> None:
    assert hash_key(KEY, decode_base64(SALT)) == HASH
    record = Record(HASH, SALT, SiteId(999))
    assert ApiKeyIndex([record]).find(KEY) is record


def test_only_salts_of_the_named_site_are_tried() -> None:
    stray = _record(KEY, 12)
    assert ApiKeyIndex([stray]).find(KEY) is None
    assert ApiKeyIndex([stray, _record("other", 999, b"salt 2")]).find(KEY) is None


def test_old_style_keys_try_every_salt() -> None:
    records = [_record(f"key-{number}", number, bytes((number,))) for number in range(5)]
    index = ApiKeyIndex(records)
    assert [index.find(f"key-{number}") for number in range(5)] == records
    assert index.find("key-5") is None
    assert index.find("") is None


@pytest.mark.parametrize(
    ("key", "site"),
    [
        (KEY, 999),
        ("prefix " + KEY + " suffix", 999),
        (KEY.replace("-999-", "-0000000000123-"), 123),
        (KEY.replace("-999-", "-2147483647-"), 2**31 - 1),
        (KEY.replace("-999-", "-2147483648-"), None),
        (KEY.replace("-999-", "-" + "9" * 5000 + "-"), None),
        (KEY.replace("-999-", "-٩-"), None),
        (KEY[:-1], None),
        (KEY.replace("UID2-C", "UID2-X"), None),
    ],
)
def test_site_of_key(key: str, site: int | None) -> None:
    assert site_of_key(key) == site
    if site is not None:
        record = _record(key, site)
        assert ApiKeyIndex([record]).find(key) is record
    elif "UID2-C" in key and len(key) >= len(KEY) and "٩" not in key:
        # The number is no site: not found even where a record has the right hash.
        assert ApiKeyIndex([_record(key, 1)]).find(key) is None


def test_results_and_misses_are_remembered() -> None:
    index = ApiKeyIndex([_record("key", 1)])
    for _ in range(3):
        assert index.find("key") is not None
        assert index.find("unknown") is None
    assert (index.lookups, index.cache_misses) == (6, 2)


def test_memory_is_bounded_and_keeps_recent_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "CACHE_ENTRIES", 3)
    index = ApiKeyIndex([_record("key", 1)])
    for name in ("key", "a", "b", "key", "c", "key"):
        index.find(name)
    assert index.cache_misses == 4
    index.find("a")
    assert index.cache_misses == 5


def test_long_and_odd_keys_are_answered_without_being_kept() -> None:
    long = "k" * 257
    index = ApiKeyIndex([_record(long, 1)])
    assert index.find(long) is not None
    assert index.find(long) is not None
    assert index.cache_misses == 2
    assert index.find("\udcff\ud800") is None
