"""The rules of the operations (core chapter, 11)."""

import json
from pathlib import Path
from typing import Any

import pytest
from admin_stage import (
    DAY,
    LOG_KEY,
    MR_ENCLAVE,
    NOW,
    OTHER_LOG_KEY,
    SIMULATED,
    Ticking,
    client_contact,
    new_universe,
    registrable,
)

from uid2.admin import (
    clients,
    cloud_keys,
    enclaves,
    generated_files,
    keypairs,
    keys,
    keysets,
    operators,
    services,
    sites,
)
from uid2.admin.change import Change
from uid2.admin.enclave_log import ENCLAVE_LOG, verified_log
from uid2.admin.errors import RefusedError
from uid2.admin.folder import open_folder
from uid2.admin.records import (
    ADMIN_KEYSETS,
    CLIENTS,
    CLOUD_KEYS,
    KEYSET_KEYS,
    KEYSETS,
    OPERATORS,
    SITE_KEYS,
)
from uid2.admin.transaction import Universe
from uid2.admin.universe import initialise
from uid2.protocol.api_keys import ApiKeyIndex
from uid2.protocol.encrypted_file import open_store_file
from uid2.protocol.errors import ConfigurationError, Uid2Error
from uid2.protocol.ids import EpochMillis, Role, SiteId
from uid2.protocol.keysets import KeyRing
from uid2.protocol.operators import OperatorType
from uid2.protocol.salts import parse_salt_lines, parse_salt_metadata
from uid2.protocol.sites import ClientType, parse_sites


def refused(universe: Universe, operation: Any, words: str, status: int | None = None) -> None:
    with pytest.raises(Uid2Error, match=words) as refusal:
        universe.run(operation)
    assert refusal.value.next_step
    if status is not None:
        assert isinstance(refusal.value, RefusedError)
        assert refusal.value.status == status


def test_a_new_universe_has_keys_salts_and_empty_stores(tmp_path: Path) -> None:
    universe = new_universe(tmp_path)
    ring = universe.look(lambda c: KeyRing(c.records(KEYSETS), c.records(KEYSET_KEYS)))
    assert ring.master(universe.look(lambda c: c.now))
    assert ring.refresh(universe.look(lambda c: c.now))
    metadata = parse_salt_metadata((tmp_path / "salts/metadata.json").read_bytes(), EpochMillis(NOW))
    (snapshot,) = metadata.salts
    rows = list(parse_salt_lines((tmp_path / snapshot.location).read_bytes()))
    assert len(rows) == len({row.current_salt for row in rows}) == snapshot.size == 160
    assert snapshot.effective <= NOW < snapshot.expires
    assert all(row.last_updated % 1000 == 1 for row in rows)
    refused(universe, lambda c: initialise(c, c.settings, 4), "stores in this folder already", 409)


def test_a_folder_without_universe_says_how_to_make_one(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    universe = Universe(folder, Ticking(), lambda n: bytes(n))
    with pytest.raises(ConfigurationError, match="no universe") as refusal:
        universe.run(lambda c: c.settings)
    assert "uid2 admin init" in refusal.value.next_step


@pytest.mark.parametrize("url", ["", "ftp://x", "file://host/x"])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_folder(url)


def test_site_ids_begin_at_three_and_names_are_unique(universe: Universe) -> None:
    ids = universe.look(lambda c: [sites.find_site(c, n).id for n in (3, 4)])
    assert ids == [3, 4]
    refused(universe, lambda c: sites.add_site(c, " one ", registrable=registrable), "named one already", 409)
    refused(universe, lambda c: sites.add_site(c, " ", registrable=registrable), "needs a name")
    refused(universe, lambda c: sites.find_site(c, 99), "site 99 not found", 404)


def test_domain_names_are_reduced_to_what_is_registered(universe: Universe) -> None:
    site = universe.run(lambda c: sites.set_domain_names(c, 3, ["WWW.Example.COM"], registrable)).result
    assert site.domain_names == ("example.com",)
    names = ["a.example.com", "b.example.com"]
    refused(universe, lambda c: sites.set_domain_names(c, 3, names, registrable), "duplicate domain_names")
    refused(universe, lambda c: sites.set_domain_names(c, 3, ["nope"], registrable), r"Invalid Domain Names: \[nope\]")


def test_a_client_key_is_stored_hashed_only(universe: Universe, tmp_path: Path) -> None:
    issued = universe.run(lambda c: clients.add_client(c, "new", 4, [Role.SHARER])).result
    found = ApiKeyIndex(universe.look(lambda c: c.records(CLIENTS))).find(issued.key)
    assert found == issued.client
    assert issued.key.startswith("UID2-C-I-4-")
    assert issued.client.contact == f"Two_{issued.client.key_id}"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert issued.key.encode() not in stored
    assert issued.key not in repr(issued)
    assert issued.secret not in repr(issued)


@pytest.mark.parametrize(
    ("roles", "allowed"), [([Role.GENERATOR, Role.SHARER], None), ([Role.SHARER], frozenset()), ([Role.MAPPER], "none")]
)
def test_the_keyset_a_client_needs(universe: Universe, roles: list[Role], allowed: Any) -> None:
    def operation(change: Change) -> SiteId:
        site = sites.add_site(change, "Fresh", registrable=registrable).id
        clients.add_client(change, "new", site, roles)
        return site

    site = universe.run(operation).result
    found = [r for r in universe.look(lambda c: c.records(ADMIN_KEYSETS)) if r.keyset.site_id == site]
    if allowed == "none":
        assert found == []
        return
    (record,) = found
    assert record.keyset.allowed_sites == allowed
    active = universe.look(lambda c: KeyRing(c.records(KEYSETS), c.records(KEYSET_KEYS)).site_key(site, c.now))
    assert active.key.keyset_id == record.keyset.keyset_id


def test_clients_are_refused_what_does_not_fit(universe: Universe) -> None:
    refused(universe, lambda c: clients.add_client(c, "x", 2, [Role.MAPPER]), "belongs to the system")
    refused(universe, lambda c: clients.add_client(c, "x", 77, [Role.MAPPER]), "site 77 not found", 404)
    refused(universe, lambda c: clients.add_client(c, "x", 3, []), "needs a role")
    refused(universe, lambda c: clients.add_client(c, "x", 3, [Role.OPERATOR]), "not roles of a client: OPERATOR")
    refused(universe, lambda c: clients.find_client(c, "nobody"), "nobody not found", 404)
    other = universe.run(lambda c: clients.add_client(c, "x", 3, [Role.MAPPER])).result.client
    contact = universe.look(client_contact)
    refused(universe, lambda c: clients.rename_client(c, contact, new_contact=other.contact), "is in use", 409)


def test_enabling_what_is_enabled_writes_nothing(universe: Universe) -> None:
    outcome = universe.run(lambda c: clients.enable_client(c, client_contact(c), enabled=True))
    assert outcome.written == ()


def test_sharing_by_type_follows_the_sites(universe: Universe) -> None:
    universe.run(lambda c: keysets.set_keyset(c, keyset_id=4, allowed_sites=[3, 4], allowed_types=[ClientType.DSP]))
    universe.run(lambda c: sites.add_site(c, "New", types=[ClientType.ADVERTISER], registrable=registrable))
    universe.run(lambda c: sites.set_types(c, 5, [ClientType.DSP]))
    derived = {keyset.keyset_id: keyset for keyset in universe.look(lambda c: c.records(KEYSETS))}
    # The owner, site 3, does not stand in its own list.
    assert derived[4].allowed_sites == {4, 5}


def test_setting_a_keyset_adds_a_key_each_time(universe: Universe) -> None:
    before = len(universe.look(lambda c: c.records(KEYSET_KEYS)))
    universe.run(lambda c: keysets.set_keyset(c, keyset_id=4, allowed_sites=None))
    assert len(universe.look(lambda c: c.records(KEYSET_KEYS))) == before + 1
    refused(universe, lambda c: keysets.set_keyset(c, keyset_id=-1), "belongs to the system")
    refused(universe, lambda c: keysets.set_keyset(c, site_id=3), "has a keyset already")
    refused(universe, lambda c: keysets.set_keyset(c), "exactly one")
    refused(universe, lambda c: keysets.set_keyset(c, keyset_id=4, allowed_sites=[4, 4]), "twice")


def test_a_list_that_has_changed_is_not_overwritten(universe: Universe) -> None:
    seen = universe.look(lambda c: keysets.sharing_list(c, 3)).digest
    universe.run(lambda c: keysets.set_sharing_list(c, 3, [4], digest=seen))
    refused(universe, lambda c: keysets.set_sharing_list(c, 3, [], digest=seen), "has changed since", 409)


def test_related_keysets_are_those_the_site_could_read(universe: Universe) -> None:
    universe.run(lambda c: keysets.set_keyset(c, keyset_id=4, allowed_sites=[], allowed_types=[ClientType.DSP]))
    related = universe.look(lambda c: [r.keyset.keyset_id for r in keysets.related_keysets(c, 4)])
    assert 4 in related  # by type
    assert 5 in related  # its own
    assert -1 not in related
    universe.run(lambda c: clients.add_client(c, "reader", 4, [Role.ID_READER]))
    assert -1 in universe.look(lambda c: [r.keyset.keyset_id for r in keysets.related_keysets(c, 4)])


def test_keys_are_rotated_once_until_they_are_old_again(universe: Universe, clock: Ticking) -> None:
    assert universe.run(lambda c: keys.rotate_master(c, DAY)).result == []
    clock.pass_days(2)
    first = universe.run(lambda c: keys.rotate_master(c, DAY)).result
    assert [key.keyset_id for key in first] == [-1, -2]
    assert {(key.activates - key.created, key.expires - key.activates) for key in first} == {(DAY, 30 * DAY)}
    # Scheduled for tomorrow counts as recent.
    assert universe.run(lambda c: keys.rotate_master(c, DAY)).result == []
    assert len(universe.run(lambda c: keys.rotate_all_sites(c, DAY)).result) == 3
    assert len(universe.run(lambda c: keys.rotate_site(c, 3, DAY, force=True)).result) == 1
    refused(universe, lambda c: keys.rotate_site(c, 3, 0), "above 0")
    refused(universe, lambda c: keys.rotate_keyset_key(c, 99, 1), "keyset 99 not found", 404)


def test_every_key_is_mirrored_and_no_id_comes_twice(tmp_path: Path, clock: Ticking) -> None:
    universe = new_universe(tmp_path, clock, filter_key_over_cut_off_days=True)
    seen: set[int] = set()
    for _ in range(6):
        clock.pass_days(40)
        seen |= {int(key.id) for key in universe.run(lambda c: keys.rotate_master(c, DAY)).result}
    kept, mirrored = universe.look(lambda c: (c.records(KEYSET_KEYS), c.records(SITE_KEYS)))
    assert len(seen) == 12
    assert len(kept) < 3 + 12
    assert [(k.id, k.activates, k.expires, k.secret.reveal()) for k in kept] == [
        (k.id, k.activates, k.expires, k.secret.reveal()) for k in mirrored
    ]
    universe.run(lambda c: (c.replace(KEYSET_KEYS, ()), c.replace(SITE_KEYS, ())))
    (key, _) = universe.run(lambda c: keys.rotate_master(c, 1, force=True)).result
    assert int(key.id) == max(seen) + 1


def test_an_operator_key_and_its_cloud_key(universe: Universe) -> None:
    issued = universe.run(lambda c: operators.add_operator(c, "op", 3, roles=[Role.OPTOUT])).result
    found = ApiKeyIndex(universe.look(lambda c: c.records(OPERATORS))).find(issued.key)
    assert found == issued.operator
    assert issued.operator.roles == {Role.OPERATOR, Role.OPTOUT}
    assert issued.key.startswith("UID2-O-I-3-")
    assert {key.site_id for key in universe.look(lambda c: c.records(CLOUD_KEYS))} == {3, 4}
    refused(universe, lambda c: operators.add_operator(c, "op", 3), "named op", 409)
    refused(universe, lambda c: operators.add_operator(c, "x", 3, roles=[Role.MAPPER]), "not a set of roles")
    both = [Role.OPTOUT, Role.OPTOUT_SERVICE]
    refused(universe, lambda c: operators.set_operator_roles(c, "op", both), "not a set of roles")


def test_moving_an_operator_backfills_the_cloud_key(universe: Universe) -> None:
    universe.run(lambda c: sites.add_site(c, "Five", registrable=registrable))
    universe.run(lambda c: operators.update_operator(c, "private", site_id=5, operator_type=OperatorType.PUBLIC))
    assert 5 in {key.site_id for key in universe.look(lambda c: c.records(CLOUD_KEYS))}


def test_cloud_keys_rotate_in_an_hour_and_eleven_are_kept(universe: Universe, clock: Ticking) -> None:
    for _ in range(15):
        clock.pass_days(1)
        added = universe.run(cloud_keys.rotate_cloud_keys).result
        assert {key.activates - key.created for key in added} == {3600}
    kept = universe.look(lambda c: c.records(CLOUD_KEYS))
    assert [len([k for k in kept if k.site_id == site]) for site in (3, 4)] == [11, 11]
    assert len({key.id for key in kept}) == len(kept)
    universe.run(lambda c: operators.delete_operator(c, "private"))
    universe.run(cloud_keys.rotate_cloud_keys)
    assert {key.site_id for key in universe.look(lambda c: c.records(CLOUD_KEYS))} == {4}


def test_the_log_tells_who_trusted_what(universe: Universe, clock: Ticking) -> None:
    clock.pass_days(1)
    universe.run(lambda c: enclaves.remove_enclave(c, "first", actor="other", key=LOG_KEY))
    entries = universe.look(verified_log)
    assert [(e.number, e.actor, e.action, e.name, e.identifier) for e in entries] == [
        (1, "test", "add", "first", MR_ENCLAVE),
        (2, "other", "remove", "first", MR_ENCLAVE),
    ]
    assert entries[1].at - entries[0].at == DAY


@pytest.mark.parametrize("damage", ["flip", "drop first", "swap actor", "foreign key"])
def test_a_log_that_was_changed_is_refused(universe: Universe, tmp_path: Path, damage: str) -> None:
    universe.run(lambda c: enclaves.remove_enclave(c, "first", actor="test", key=LOG_KEY))
    file = tmp_path / ENCLAVE_LOG
    lines = file.read_bytes().splitlines()
    if damage == "drop first":
        lines = lines[1:]
    elif damage == "flip":
        lines[0] = lines[0].replace(b"ab", b"ac", 1)
    elif damage == "swap actor":
        lines[1] = lines[1].replace(b'"test"', b'"none"')
    else:
        lines = lines[:1]
    file.write_bytes(b"\n".join(lines) + b"\n")
    key = OTHER_LOG_KEY if damage == "foreign key" else LOG_KEY
    measurement = enclaves.Measurement("ef" * 32, "identifier")
    words = "not one of the universe's" if damage == "foreign key" else "has been changed"
    refused(universe, lambda c: enclaves.add_enclave(c, "x", measurement, actor="a", key=key), words)


@pytest.mark.parametrize("how", ["identifier", "record", "marked record"])
def test_simulated_enclaves_are_for_development(tmp_path: Path, how: str) -> None:
    record = {"mr_enclave": SIMULATED if how == "record" else MR_ENCLAVE, "measurement": "simulated"}
    measurement = (
        enclaves.Measurement(SIMULATED, "identifier")
        if how == "identifier"
        else enclaves.measurement_of_record(json.dumps(record).encode())
    )
    for environment in ("test", "integ", "prod"):
        universe = new_universe(tmp_path / environment, environment=environment)
        refused(universe, lambda c: enclaves.add_enclave(c, "x", measurement, actor="a", key=LOG_KEY), "simulated")
    universe = new_universe(tmp_path / "development", environment="development")
    added = universe.run(lambda c: enclaves.add_enclave(c, "x", measurement, actor="a", key=LOG_KEY)).result
    assert added.identifier == measurement.identifier


def test_an_enclave_from_a_real_quote(universe: Universe) -> None:
    quote = Path(__file__).parents[2] / "vectors/dcap/sgx_quote.bin"
    measurement = enclaves.measurement_of_quote(quote.read_bytes())
    assert len(bytes.fromhex(measurement.identifier)) == 32
    universe.run(lambda c: enclaves.add_enclave(c, "real", measurement, actor="a", key=LOG_KEY))
    refused(universe, lambda c: enclaves.add_enclave(c, "again", measurement, actor="a", key=LOG_KEY), "already", 409)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"mr_enclave": 5}'])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(RefusedError, match="no identity record"):
        enclaves.measurement_of_record(data)
    with pytest.raises(RefusedError, match="no quote"):
        enclaves.measurement_of_quote(data)


def test_links_keep_to_their_service(universe: Universe) -> None:
    refused(universe, lambda c: services.add_link(c, 1, "bbb", 3, "", [Role.MAPPER]), "does not match")
    refused(universe, lambda c: services.add_link(c, 1, "aaa", 3, "", [Role.GENERATOR]), "no role GENERATOR")
    refused(universe, lambda c: services.add_link(c, 1, "abc", 3, "", [Role.MAPPER]), "has a link abc", 409)
    refused(universe, lambda c: services.update_service(c, 1, roles=[Role.SHARER]), "uses a role")
    refused(universe, lambda c: services.update_service(c, 1, link_id_regex="x"), "does not match the pattern")
    refused(universe, lambda c: services.update_service(c, 1, link_id_regex="("), "no regular expression")
    refused(universe, lambda c: services.delete_service(c, 1), "still has links")


def test_a_key_pair_brings_a_keyset(universe: Universe) -> None:
    pair = universe.run(lambda c: keypairs.add_keypair(c, 3, name="web")).result
    assert pair.public_key_text.startswith("UID2-X-I-")
    assert pair.private_key_text.reveal().decode().startswith("UID2-Y-I-")
    assert pair.private_key.public_key() == pair.public_key
    assert any(r.keyset.site_id == 3 for r in universe.look(lambda c: c.records(ADMIN_KEYSETS)))


def test_per_site_files_hold_what_the_site_may_have(universe: Universe, tmp_path: Path) -> None:
    universe.run(generated_files.refresh_private_sites)
    universe.run(generated_files.sync_encrypted_files)
    own = universe.look(lambda c: c.records(CLIENTS, "site/3/"))
    assert {client.site_id for client in own} == {3}
    readable = {keyset.keyset_id for keyset in universe.look(lambda c: c.records(KEYSETS, "site/3/"))}
    assert readable == {-1, -2, 2, 4}
    assert {key.keyset_id for key in universe.look(lambda c: c.records(KEYSET_KEYS, "site/3/"))} == readable
    cloud = {key.id: key for key in universe.look(lambda c: c.records(CLOUD_KEYS))}
    metadata = json.loads((tmp_path / "sites/encrypted/4_public/metadata.json").read_bytes())
    sealed = (tmp_path / metadata["sites"]["location"]).read_bytes()
    assert {site.id for site in parse_sites(open_store_file(sealed, cloud, "sites").plaintext)} == {3, 4}
    assert metadata["version"] == json.loads((tmp_path / "sites/metadata.json").read_bytes())["version"]
    salts = json.loads((tmp_path / "salts/encrypted/3_private/metadata.json").read_bytes())
    location = salts["salts"][0]["location"]
    rows = list(parse_salt_lines(open_store_file((tmp_path / location).read_bytes(), cloud, "salts").plaintext))
    assert (len(rows), salts["key_id"]) == (160, 1)
    # Nothing has changed: nothing is written.
    assert universe.run(generated_files.sync_encrypted_files).written == ()
    assert universe.run(generated_files.refresh_private_sites).written == ()


def test_a_new_cloud_key_encrypts_anew(universe: Universe, clock: Ticking) -> None:
    universe.run(generated_files.sync_encrypted_files)
    universe.run(cloud_keys.rotate_cloud_keys)
    assert universe.run(generated_files.sync_encrypted_files).written == ()
    clock.pass_days(1)
    assert universe.run(generated_files.sync_encrypted_files).written
