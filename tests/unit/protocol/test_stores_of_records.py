"""Every store file of the sample data, and broken ones."""

import json
from pathlib import Path

import pytest

from uid2.protocol import clients, enclaves, keypairs, keysets, operators, partners, services, sites
from uid2.protocol.cloud_keys import encode_cloud_keys, parse_cloud_keys
from uid2.protocol.encrypted_file import FileDecryptionError, encrypt_store_file, open_store_file
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Role
from uid2.protocol.metadata import encode_metadata, parse_metadata

STORES = Path(__file__).parents[2] / "vectors" / "stores"
CODECS = {
    "clients": (clients.parse_clients, clients.encode_clients),
    "keysets": (keysets.parse_keysets, keysets.encode_keysets),
    "keyset_keys": (keysets.parse_keyset_keys, keysets.encode_keyset_keys),
    "sites": (sites.parse_sites, sites.encode_sites),
    "services": (services.parse_services, services.encode_services),
    "service_links": (services.parse_service_links, services.encode_service_links),
    "client_side_keypairs": (keypairs.parse_client_side_keypairs, keypairs.encode_client_side_keypairs),
    "operators": (operators.parse_operators, operators.encode_operators),
    "enclaves": (enclaves.parse_enclaves, enclaves.encode_enclaves),
    "partners": (partners.parse_partners, partners.encode_partners),
    "cloud_encryption_keys": (parse_cloud_keys, encode_cloud_keys),
}
CLOUD_KEYS = {
    key.id: key
    for key in parse_cloud_keys((STORES / "cloud_encryption_keys" / "cloud_encryption_keys.json").read_bytes())
}
FILES = sorted(file for store in CODECS for file in STORES.rglob(f"{store}.json"))
PLAIN = {store: STORES / store / f"{store}.json" for store in CODECS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(STORES)))
def test_sample_file_reads_back_as_written(file: Path) -> None:
    parse, encode = CODECS[file.stem]
    data = file.read_bytes()
    if "encrypted" in file.parts:
        data = open_store_file(data, CLOUD_KEYS, file.stem).plaintext
    records = parse(data)
    assert len(records) == len(json.loads(data))
    assert parse(encode(records)) == records
    assert parse_metadata((file.parent / "metadata.json").read_bytes(), file.stem).location


@pytest.mark.parametrize(
    ("store", "field"),
    [
        ("clients", "key_hash"),
        ("clients", "key_salt"),
        ("clients", "secret"),
        ("clients", "roles"),
        ("keysets", "keyset_id"),
        ("keysets", "created"),
        ("keysets", "enabled"),
        ("keysets", "default"),
        ("keyset_keys", "id"),
        ("keyset_keys", "activates"),
        ("keyset_keys", "expires"),
        ("keyset_keys", "secret"),
        ("sites", "id"),
        ("services", "service_id"),
        ("services", "roles"),
        ("service_links", "link_id"),
        ("client_side_keypairs", "private_key"),
        ("client_side_keypairs", "disabled"),
        ("operators", "key_hash"),
        ("enclaves", "created"),
        ("partners", "retry_count"),
        ("cloud_encryption_keys", "secret"),
    ],
)
@pytest.mark.parametrize("value", [None, {"wrong": "type"}])
def test_missing_or_wrong_member_is_named(store: str, field: str, value: object) -> None:
    document = json.loads(PLAIN[store].read_bytes())
    document[-1][field] = value
    with pytest.raises(StoreFormatError) as raised:
        CODECS[store][0](json.dumps(document).encode())
    assert (raised.value.record, raised.value.field) == (str(len(document) - 1), field)
    assert "file clients.json" in str(raised.value.in_file("clients.json"))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"[", b"\xff", b"[" * 5000, b"null"])
@pytest.mark.parametrize("store", CODECS)
def test_no_array_of_objects_is_refused(store: str, data: bytes) -> None:
    with pytest.raises(StoreFormatError):
        CODECS[store][0](data)


@pytest.mark.parametrize(
    ("store", "field"),
    [
        ("clients", "key_hash"),
        ("operators", "key_hash"),
        ("service_links", "link_id"),
        ("client_side_keypairs", "subscription_id"),
        ("partners", "name"),
        ("cloud_encryption_keys", "id"),
    ],
)
def test_duplicates_are_refused(store: str, field: str) -> None:
    document = json.loads(PLAIN[store].read_bytes())
    with pytest.raises(StoreFormatError, match="duplicate") as raised:
        CODECS[store][0](json.dumps([*document, document[0]]).encode())
    assert (raised.value.record, raised.value.field) == (str(len(document)), field)


def test_unknown_client_roles_grant_nothing() -> None:
    found = clients.parse_clients((STORES / "operator-mock" / "clients" / "clients.json").read_bytes())
    assert found[0].roles == {
        Role.MAPPER, Role.GENERATOR, Role.ID_READER, Role.SHARER, Role.OPTOUT, Role.UNKNOWN,
    }  # fmt: skip


def test_service_roles_are_exact() -> None:
    with pytest.raises(StoreFormatError, match="unknown role"):
        services.parse_services(b'[{"service_id":1,"site_id":3,"roles":["mapper"]}]')


def test_a_site_with_an_unknown_type_is_refused_and_types_match_in_any_case() -> None:
    assert sites.parse_sites(b'[{"id":3,"clientTypes":["dsp"]}]')[0].client_types == {sites.ClientType.DSP}
    with pytest.raises(StoreFormatError, match="client type"):
        sites.parse_sites(b'[{"id":3,"clientTypes":["OTHER"]}]')


@pytest.mark.parametrize(("field", "text"), [("public_key", "bad public key"), ("private_key", "bad private key")])
def test_a_bad_key_refuses_the_pairs(field: str, text: str) -> None:
    document = json.loads(PLAIN["client_side_keypairs"].read_bytes())
    document[0][field] = document[0][field][:40]
    with pytest.raises(StoreFormatError, match=text):
        keypairs.parse_client_side_keypairs(json.dumps(document).encode())


def test_secrets_do_not_show() -> None:
    text = PLAIN["clients"].read_bytes()
    secret = json.loads(text)[0]["secret"]
    assert secret not in repr(clients.parse_clients(text))
    assert json.loads(text)[0]["key_hash"] not in repr(clients.parse_clients(text))


def test_encrypted_file_round_trip_and_refusals() -> None:
    key = CLOUD_KEYS[5]
    sealed = encrypt_store_file(b"[]", key, bytes(12))
    assert open_store_file(sealed, CLOUD_KEYS, "sites").plaintext == b"[]"
    with pytest.raises(FileDecryptionError) as raised:
        open_store_file(sealed, {}, "sites")
    assert (raised.value.key_id, raised.value.status) == (5, "KEY_NOT_FOUND")
    assert raised.value.message == "No matching key found for S3 file decryption - key_id=5 store=sites"
    for broken in (b"[]", b"", b'{"key_id":5}', b'{"encrypted_payload":"AA=="}'):
        with pytest.raises(StoreFormatError, match=r"^Failed to parse JSON$"):
            open_store_file(broken, CLOUD_KEYS, "sites")
    for payload in ("AA==", "*", json.loads(sealed)["encrypted_payload"][:-4] + "AAA="):
        with pytest.raises(FileDecryptionError, match=r"^Internal decryption failure - key_id=5 store=sites$") as wrong:
            open_store_file(json.dumps({"key_id": 5, "encrypted_payload": payload}).encode(), CLOUD_KEYS, "sites")
        assert (wrong.value.key_id, wrong.value.status) == (5, "INTERNAL_DECRYPTION_FAILURE")


def test_metadata() -> None:
    written = encode_metadata("keyset_keys", 7, 8, "keyset_keys/keyset_keys.json", {"max_key_id": 20})
    read = parse_metadata(written, "keyset_keys")
    assert (read.version, read.generated, read.location) == (7, 8, "keyset_keys/keyset_keys.json")
    assert read.raw["max_key_id"] == 20
    with pytest.raises(StoreFormatError, match=r"sites\.location"):
        parse_metadata(b'{"version":1,"sites":{}}', "sites")
