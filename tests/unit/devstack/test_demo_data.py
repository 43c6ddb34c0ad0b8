import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.devstack.demo_data import LIFETIME_DAYS, OPERATOR_SITE, create_demo_stores
from uid2.devstack.demo_programs import MOST_OPERATORS, create_program_stores
from uid2.devstack.key_texts import draw_key_pair, draw_key_text
from uid2.protocol.api_keys import ApiKeyIndex, site_of_key
from uid2.protocol.clients import parse_clients
from uid2.protocol.cloud_keys import parse_cloud_keys
from uid2.protocol.crypto.ecdh import shared_secret
from uid2.protocol.cstg import load_server_private_key, load_server_public_key
from uid2.protocol.enclaves import parse_enclaves
from uid2.protocol.ids import MASTER_KEYSET, EpochMillis, EpochSeconds, Role, SiteId
from uid2.protocol.keypairs import parse_client_side_keypairs
from uid2.protocol.keysets import KeyRing, parse_keyset_keys, parse_keysets
from uid2.protocol.operators import parse_operators
from uid2.protocol.partners import parse_partners
from uid2.protocol.runtime_config import parse_runtime_config_document
from uid2.protocol.salts import parse_salt_lines, parse_salt_metadata
from uid2.protocol.services import parse_service_links, parse_services
from uid2.protocol.sites import parse_sites

NOW = EpochMillis(1_795_000_000_123)
DAY = 86_400_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    credentials = create_demo_stores(folder, salts=500, draw=random.Random(7).randbytes, now=NOW)
    (folder / "key").write_text(f"{credentials.client_key} {credentials.client_secret}")
    return folder


def content(stores: Path, store: str) -> bytes:
    metadata = json.loads((stores / store / "metadata.json").read_bytes())
    member = next(value for value in metadata.values() if isinstance(value, dict))
    return (stores / member["location"].strip("/")).read_bytes()


def test_the_client_key_is_found_by_its_hash_and_has_every_role(stores: Path) -> None:
    key, secret = (stores / "key").read_text().split()
    clients = parse_clients(content(stores, "clients"))

    client = ApiKeyIndex(clients).find(key)

    assert client is not None
    assert client.site_id == site_of_key(key) == SiteId(123)
    assert {Role.GENERATOR, Role.MAPPER, Role.ID_READER, Role.SHARER, Role.OPTOUT} == client.roles
    assert secret.encode() not in client.key_hash.encode()
    assert key.encode() not in content(stores, "clients")


@pytest.mark.parametrize("days", [0, 200, LIFETIME_DAYS - 1])
def test_keys_are_active_for_the_whole_life_of_the_stores(stores: Path, days: int) -> None:
    ring = KeyRing(parse_keysets(content(stores, "keysets")), parse_keyset_keys(content(stores, "keyset_keys")))
    at = EpochSeconds((NOW + days * DAY) // 1000)

    assert ring.master(at).keyset_id == MASTER_KEYSET
    assert ring.refresh(at)
    assert ring.site_key(SiteId(123), at).key.keyset_id == 4
    assert ring.site_key(SiteId(99), at).key.keyset_id == 2


def test_later_keys_have_larger_ids(stores: Path) -> None:
    keys = parse_keyset_keys(content(stores, "keyset_keys"))

    assert [key.id for key in sorted(keys, key=lambda key: (key.activates, key.id))] == [key.id for key in keys]


def test_the_demo_site_reads_its_partners_keyset(stores: Path) -> None:
    ring = KeyRing(parse_keysets(content(stores, "keysets")), parse_keyset_keys(content(stores, "keyset_keys")))

    keysets = {key.keyset_id for key in ring.readable_by(SiteId(123), frozenset({Role.SHARER}))}

    assert {4, 5} <= keysets


def test_salts_follow_the_administrative_rules(stores: Path) -> None:
    folder = stores / "salts"
    metadata = parse_salt_metadata((folder / "metadata.json").read_bytes(), NOW)
    snapshot = metadata.salts[0]
    rows = list(parse_salt_lines((stores / snapshot.location.strip("/")).read_bytes()))

    assert len(rows) == snapshot.size == 500
    assert snapshot.effective <= NOW < snapshot.expires
    assert len({row.id for row in rows}) == len({row.current_salt for row in rows}) == 500
    for row in rows:
        age = (snapshot.effective - row.last_updated) // DAY + 1
        assert row.last_updated % 1000 == 1
        assert snapshot.effective < row.refresh_from <= snapshot.effective + 30 * DAY
        assert (row.previous_salt is not None) == (age < 90)


def test_every_other_store_parses(stores: Path) -> None:
    pair = parse_client_side_keypairs(content(stores, "client_side_keypairs"))[0]
    links = parse_service_links(content(stores, "service_links"))
    runtime = (stores / "runtime_config" / "metadata.json").read_bytes()

    assert pair.site_id == SiteId(123)
    assert "localhost" in parse_sites(content(stores, "sites"))[0].domain_names
    assert links[0].service_id == parse_services(content(stores, "services"))[0].service_id
    assert parse_runtime_config_document(runtime)[1].identity_token_expires_after_seconds == 3600


@given(st.integers(0, 2**32))
def test_key_pairs_are_pairs(seed: int) -> None:
    one, two = (draw_key_pair("UID2", random.Random(seed + n).randbytes) for n in (0, 1))

    halves = [
        shared_secret(load_server_private_key(mine.private_key), load_server_public_key(theirs.public_key))
        for mine, theirs in ((one, two), (two, one))
    ]

    assert halves[0] == halves[1]
    assert one.private_key not in repr(one)
    assert len(one.subscription_id) == 10


def test_key_texts_have_the_documented_form() -> None:
    text = draw_key_text("EUID-C-L-7-", random.Random(1).randbytes)

    assert site_of_key(text) == SiteId(7)
    assert len(text) == len("EUID-C-L-7-") + 45


def test_core_knows_every_program(tmp_path: Path) -> None:
    keys = create_program_stores(tmp_path, draw=random.Random(5).randbytes, now=NOW, scope="uid2")
    index = ApiKeyIndex(parse_operators(content(tmp_path, "operators")))
    found = [index.find(key) for key in (*keys.operators, keys.optout)]

    assert len(set(keys.operators)) == MOST_OPERATORS
    assert [record.protocol for record in found if record is not None] == ["azure-sgx"] * MOST_OPERATORS + ["trusted"]
    assert parse_enclaves(content(tmp_path, "enclaves"))[0].identifier.startswith("00" * 8)
    assert parse_cloud_keys(content(tmp_path, "cloud_encryption_keys"))[0].site_id == OPERATOR_SITE
    assert parse_partners(content(tmp_path, "partners")) == ()
    assert not any(key in repr(keys) for key in keys.operators)
