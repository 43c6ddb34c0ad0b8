"""Key endpoints (section 12)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from case import Case, call, error, success
from entrance import entrance
from stage import FULL_KEY, NOW, READER_KEY, SHARER_KEY, Answer, Stage

from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochSeconds, KeyId, KeysetId, Role, SiteId
from uid2.protocol.keysets import KeyRing, Keyset
from uid2.protocol.sites import Site

LATEST, SHARING, BIDSTREAM = "/v2/key/latest", "/v2/key/sharing", "/v2/key/bidstream"
READER, SHARER = frozenset({Role.ID_READER}), frozenset({Role.SHARER})
CALLER, OTHER = SiteId(999), SiteId(555)
WITHOUT_CSTG = {"client_side_token_generate": False}
WITH_APPS = {"key_sharing_endpoint_provide_app_names": True}
INTERNAL = "Internal Server Error"


def keyset(
    number: int, site: SiteId, allowed: set[int] | None, *, enabled: bool = True, default: bool = False
) -> Keyset:
    sites = None if allowed is None else frozenset(map(SiteId, allowed))
    return Keyset(KeysetId(number), site, f"keyset {number}", sites, EpochSeconds(0), enabled, default)


KEYSETS = (
    keyset(-1, SiteId(-1), set(), enabled=False, default=True),
    keyset(-2, SiteId(-2), None, default=True),
    keyset(10, CALLER, set(), default=True),
    keyset(11, CALLER, None, enabled=False),
    keyset(12, OTHER, None),
    keyset(13, OTHER, {999}),
    keyset(14, OTHER, {102, 104}),
    keyset(15, OTHER, set()),
    keyset(16, OTHER, {999}, enabled=False),
)
# Keys of keyset n have the id 100 + n; one that is yet to come and one long past are delivered as well.
KEY_OF = {-1: 99, -2: 98, 10: 110, 11: 111, 12: 112, 13: 113, 14: 114, 15: 115, 16: 116}
FUTURE_KEY, PAST_KEY, ORPHAN_KEY = 210, 209, 300


def rearranged(roles: frozenset[Role] = READER) -> Callable[[Stage], None]:
    def prepare(stage: Stage) -> None:
        at = EpochSeconds(NOW // 1000)
        pattern = stage.context.snapshot.key_ring.master(at)
        keys = [replace(pattern, id=KeyId(KEY_OF[one.keyset_id]), keyset_id=one.keyset_id) for one in KEYSETS]
        keys.append(replace(pattern, id=KeyId(FUTURE_KEY), keyset_id=KeysetId(10), activates=EpochSeconds(at + 9999)))
        keys.append(replace(pattern, id=KeyId(PAST_KEY), keyset_id=KeysetId(10), expires=EpochSeconds(at - 9999)))
        keys.append(replace(pattern, id=KeyId(ORPHAN_KEY), keyset_id=KeysetId(77)))
        stage.exchange(key_ring=KeyRing(KEYSETS, reversed(keys)))
        stage.change_client(FULL_KEY, roles=roles)

    return prepare


def sees(*key_ids: int) -> Callable[[Stage, Answer], None]:
    """Exactly these keys, ascending."""

    def check(_: Stage, answer: Answer) -> None:
        body = answer.document["body"]
        keys = body["keys"] if isinstance(body, dict) else body
        assert [key["id"] for key in keys] == list(key_ids)

    return check


READABLE = (99, 110, 112, 113, 209, 210)
SHARED = (99, 110, 113, 209, 210)


def delivery(row: str, key_id: int, reader: bool, sharer: bool) -> list[Case]:
    """One row of the table: whether each role is given the key, on every endpoint that the role may call."""

    def given(expected: bool) -> Callable[[Stage, Answer], None]:
        def check(_: Stage, answer: Answer) -> None:
            body = answer.document["body"]
            keys = body["keys"] if isinstance(body, dict) else body
            assert (key_id in [key["id"] for key in keys]) is expected

        return check

    both = READER | SHARER
    return [
        *(
            Case("12.4", row, f"ID_READER on {path}", call(path), prepare=rearranged(READER), check=given(reader))
            for path in (LATEST, SHARING, BIDSTREAM)
        ),
        Case("12.4", row, "SHARER only", call(SHARING), prepare=rearranged(SHARER), check=given(sharer)),
        Case("12.4", row, "both roles", call(SHARING), prepare=rearranged(both), check=given(reader)),
    ]


def key(stage: Stage, number: int, **more: Any) -> dict[str, Any]:
    one = stage.context.snapshot.key_ring.key(number)
    assert one is not None
    secret = encode_base64(one.secret.reveal())
    times = {"created": one.created, "activates": one.activates, "expires": one.expires}
    return {"id": number, "secret": secret, **times, **more}


def latest(stage: Stage, answer: Answer) -> None:
    sites = {99: -1, 112: 555, 113: 555}
    assert answer.document == success([key(stage, number, site_id=sites.get(number, 999)) for number in READABLE])


def sharing(stage: Stage, answer: Answer) -> None:
    keysets = {99: {"keyset_id": 9999999}, 112: {}, 113: {}}
    assert answer.document == success(
        {
            "caller_site_id": 999,
            "master_keyset_id": 9999999,
            "default_keyset_id": 10,
            "token_expiry_seconds": "2592000",
            "max_sharing_lifetime_seconds": 2592010,
            "identity_scope": "UID2",
            "allow_clock_skew_seconds": 1800,
            "keys": [key(stage, number, **keysets.get(number, {"keyset_id": 10})) for number in READABLE],
            "site_data": [],
        }
    )


def bidstream(stage: Stage, answer: Answer) -> None:
    assert answer.document == success(
        {
            "max_bidstream_lifetime_seconds": 3610,
            "identity_scope": "EUID",
            "allow_clock_skew_seconds": 60,
            "keys": [key(stage, number) for number in READABLE],
            "site_data": [],
        }
    )


def site_data(expected: Any) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert answer.document["body"].get("site_data") == expected

    return check


def with_sites(stage: Stage) -> None:
    rearranged()(stage)
    pattern: Site = stage.context.snapshot.sites[SiteId(123)]
    sites = (
        replace(pattern, id=CALLER, domain_names=("z.com", "a.com"), app_names=("m.app",)),
        replace(pattern, id=OTHER, domain_names=(), app_names=("only.app",)),
        replace(pattern, id=SiteId(556), domain_names=("unseen.com",), app_names=()),
    )
    stage.exchange(sites={site.id: site for site in sites})


def lacks(name: str) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert name not in answer.document["body"]

    return check


def without_default(stage: Stage) -> None:
    rearranged()(stage)
    ring = stage.context.snapshot.key_ring
    keysets = [replace(one, default=False) if one.keyset_id == 10 else one for one in ring.keysets]
    stage.exchange(key_ring=KeyRing(keysets, ring.keys))


def two_defaults(stage: Stage) -> None:
    rearranged()(stage)
    ring = stage.context.snapshot.key_ring
    stage.exchange(key_ring=KeyRing([*ring.keysets, keyset(20, CALLER, None, default=True)], ring.keys))


def no_master(stage: Stage) -> None:
    stage.without_keys(-1)


def of_site(number: int) -> Callable[[Stage], None]:
    """The old form of key names no site, so that its record may have any."""

    def prepare(stage: Stage) -> None:
        stage.change_client(OLD_KEY, site_id=SiteId(number))

    return prepare


OLD_KEY = "LOCALbGlvbnVuZGVybGluZXdpbmRzY2FyZWRzb2Z0ZGVzZXI="
EUID = {"identity_scope": "euid", "allow_clock_skew_seconds": 60}
CONFIGURED_LIFETIMES = {"max_sharing_lifetime_seconds": 100, "max_bidstream_lifetime_seconds": 7200}


def configured(stage: Stage) -> None:
    stage.runtime(**CONFIGURED_LIFETIMES)


def lifetime(name: str, seconds: int) -> Callable[[Stage, Answer], None]:
    def check(_: Stage, answer: Answer) -> None:
        assert answer.document["body"][name] == seconds

    return check


CASES = [
    *entrance("12.1", LATEST),
    *(
        Case(
            "12.1",
            "site",
            str(number),
            call(LATEST, key=OLD_KEY),
            401,
            error(f"Unexpected client site id {number}", "invalid_client"),
            prepare=of_site(number),
        )
        for number in (-1, 1, 2)
    ),
    Case("12.1", "site", "3 is a participant", call(LATEST, key=OLD_KEY), prepare=of_site(3)),
    Case("12.1", "ok", "each key with its site", call(LATEST), prepare=rearranged(), check=latest),
    Case("12.1", "ok", "the payload is ignored", call(LATEST, {"x": 1}), prepare=rearranged(), check=latest),
    Case("12.1", "master", "no active master key", call(LATEST), 500, text=INTERNAL, prepare=no_master),
    *entrance("12.2", SHARING),
    Case("12.2", "ok", "the whole answer", call(SHARING), prepare=rearranged(READER | SHARER), check=sharing),
    Case(
        "12.2",
        "sharer",
        "only with the role",
        call(SHARING, key=READER_KEY),
        check=lacks("max_sharing_lifetime_seconds"),
    ),
    Case(
        "12.2",
        "sharer",
        "configured and ten",
        call(SHARING, key=SHARER_KEY),
        prepare=configured,
        check=lifetime("max_sharing_lifetime_seconds", 110),
    ),
    Case("12.2", "default", "none", call(SHARING), prepare=without_default, check=lacks("default_keyset_id")),
    Case(
        "12.2",
        "site_data",
        "sites of delivered keys",
        call(SHARING),
        prepare=with_sites,
        check=site_data([{"id": 999, "domain_names": ["a.com", "z.com"]}]),
    ),
    Case(
        "12.2",
        "site_data",
        "not without CSTG",
        call(SHARING),
        prepare=with_sites,
        settings=WITHOUT_CSTG,
        check=lacks("site_data"),
    ),
    Case(
        "12.2",
        "app_names",
        "sorted in",
        call(SHARING),
        prepare=with_sites,
        settings=WITH_APPS,
        check=site_data(
            [{"id": 555, "domain_names": ["only.app"]}, {"id": 999, "domain_names": ["a.com", "m.app", "z.com"]}]
        ),
    ),
    *entrance("12.3", BIDSTREAM),
    Case("12.3", "ok", "the whole answer", call(BIDSTREAM), prepare=rearranged(), settings=EUID, check=bidstream),
    Case(
        "12.3",
        "ok",
        "configured and ten",
        call(BIDSTREAM),
        prepare=configured,
        check=lifetime("max_bidstream_lifetime_seconds", 7210),
    ),
    Case(
        "12.3",
        "ok",
        "site data",
        call(BIDSTREAM),
        prepare=with_sites,
        check=site_data([{"id": 999, "domain_names": ["a.com", "z.com"]}]),
    ),
    Case("12.3", "master", "no active master key", call(BIDSTREAM), 500, text=INTERNAL, prepare=no_master),
    *delivery("own", 110, reader=True, sharer=True),
    *delivery("own-disabled", 111, reader=False, sharer=False),
    *delivery("null", 112, reader=True, sharer=False),
    *delivery("listed", 113, reader=True, sharer=True),
    Case("12.4", "listed", "but the keyset is disabled", call(BIDSTREAM), prepare=rearranged(), check=sees(*READABLE)),
    *delivery("others", 114, reader=False, sharer=False),
    *delivery("empty", 115, reader=False, sharer=False),
    *delivery("master", 99, reader=True, sharer=True),
    *delivery("refresh", 98, reader=False, sharer=False),
    Case("12.4", "null", "the whole list of a SHARER", call(SHARING), prepare=rearranged(SHARER), check=sees(*SHARED)),
    Case("12.4", "defaults", "sharing", call(SHARING), 500, text=INTERNAL, prepare=two_defaults),
    Case("12.4", "defaults", "latest", call(LATEST), 500, text=INTERNAL, prepare=two_defaults),
    Case("12.4", "defaults", "bidstream", call(BIDSTREAM), 500, text=INTERNAL, prepare=two_defaults),
]
