import json

import pytest

from uid2.protocol.errors import MultipleDefaultKeysetsError, NoActiveKeyError
from uid2.protocol.ids import EpochSeconds, KeysetId, Role, SiteId
from uid2.protocol.keysets import (
    FALLBACK_KEYSET_FOUND,
    SITE_KEYSET_FOUND,
    KeyRing,
    parse_keyset_keys,
    parse_keysets,
)

SECRET = "A" * 43 + "="
SITE = SiteId(101)
NOW = EpochSeconds(1000)


def ring(keysets: list[tuple[object, ...]], keys: list[tuple[int, int, int, int]]) -> KeyRing:
    """Keysets as (id, site, allowed sites, enabled, default), keys as (id, keyset, activates, expires)."""
    return KeyRing(
        parse_keysets(
            json.dumps(
                [
                    {"keyset_id": i, "site_id": s, "allowed_sites": a, "created": 0, "enabled": e, "default": d}
                    for i, s, a, e, d in keysets
                ]
            ).encode()
        ),
        parse_keyset_keys(
            json.dumps(
                [
                    {"id": i, "keyset_id": k, "created": 0, "activates": a, "expires": x, "secret": SECRET}
                    for i, k, a, x in keys
                ]
            ).encode()
        ),
    )


@pytest.mark.parametrize(
    ("keys", "at", "expected"),
    [
        ([(1, 4, 10, 20)], 9, None),
        ([(1, 4, 10, 20)], 10, 1),
        ([(1, 4, 10, 20)], 19, 1),
        ([(1, 4, 10, 20)], 20, None),
        ([(1, 4, 10, 90), (2, 4, 30, 40)], 35, 2),
        ([(1, 4, 10, 90), (2, 4, 30, 40)], 40, 1),
        ([(2, 4, 10, 90), (1, 4, 10, 90)], 50, 1),
        ([(1, 5, 10, 90)], 50, None),
    ],
)
def test_active_key(keys: list[tuple[int, int, int, int]], at: int, expected: int | None) -> None:
    found = ring([], keys).active(KeysetId(4), EpochSeconds(at))
    assert (found and found.id) == expected


def test_purposes_and_their_errors() -> None:
    full = ring(
        [(2, 2, [], True, True), (4, 101, [], True, True)],
        [(1, -1, 0, 5000), (2, -2, 0, 5000), (3, 2, 0, 5000), (4, 4, 0, 5000)],
    )
    assert (full.master(NOW).id, full.refresh(NOW).id) == (1, 2)
    site, fallback = full.site_key(SITE, NOW), full.site_key(SiteId(7), NOW)
    assert (site.key.id, site.status) == (4, SITE_KEYSET_FOUND)
    assert (fallback.key.id, fallback.status) == (3, FALLBACK_KEYSET_FOUND)
    empty = ring([], [])
    with pytest.raises(NoActiveKeyError) as raised:
        empty.master(NOW)
    assert str(raised.value) == "Cannot get a master key with keyset ID -1."
    with pytest.raises(NoActiveKeyError) as raised:
        empty.refresh(NOW)
    assert str(raised.value) == "Cannot get a refresh key with keyset ID -2."
    with pytest.raises(NoActiveKeyError) as raised:
        empty.site_key(SITE, NOW)
    assert str(raised.value) == "Cannot get active key in default keyset with SITE ID 101 or 2."


def test_two_default_keysets() -> None:
    two = ring([(4, 101, [], True, True), (5, 101, [], True, True), (6, 102, [], True, True)], [])
    with pytest.raises(MultipleDefaultKeysetsError) as raised:
        two.site_key(SITE, NOW)
    assert str(raised.value) == "Multiple default keysets are enabled with SITE ID 101."
    one = ring([(4, 101, [], True, True), (5, 101, [], False, True), (6, 101, [], True, False)], [])
    found = one.default_keyset(SITE)
    assert found is not None
    assert found.keyset_id == 4


@pytest.mark.parametrize(
    ("keyset", "reader", "sharer"),
    [
        ((4, 101, [], True, True), True, True),
        ((4, 101, [], False, True), False, False),
        ((4, 102, None, True, True), True, False),
        ((4, 102, [101], True, True), True, True),
        ((4, 102, [101], False, True), False, False),
        ((4, 102, [103, 104], True, True), False, False),
        ((4, 102, [], True, True), False, False),
        ((-1, -1, [], False, True), True, True),
        ((-2, -2, None, True, True), False, False),
        ((-2, -2, [101], True, True), False, False),
    ],
)
def test_who_reads_a_keyset(keyset: tuple[object, ...], reader: bool, sharer: bool) -> None:
    keys = ring([keyset], [(9, int(str(keyset[0])), 10, 20), (8, 77, 10, 20), (3, int(str(keyset[0])), 10, 20)])
    for role, expected in ((Role.ID_READER, reader), (Role.SHARER, sharer)):
        assert [key.id for key in keys.readable_by(SITE, {role})] == ([3, 9] if expected else [])


def test_decryption_ignores_time_and_keyset() -> None:
    keys = ring([], [(9, 77, 10, 20)])
    found = keys.key(9)
    assert found is not None
    assert keys.keyset_of(found) is None
    assert keys.key(10) is None
