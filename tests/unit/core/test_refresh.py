import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from core_stage import OPTOUT, PRIVATE, PUBLIC, STORES, Core, members

from uid2.core.scopes import Caller, Split, metadata_path
from uid2.protocol.ids import SiteId

NAMES = {
    "/sites/refresh": ("sites", "sites", "sites"),
    "/clients/refresh": ("clients", "client_keys", "client"),
    "/client_side_keypairs/refresh": ("client_side_keypairs", "client_side_keypairs", "client_side_keypairs"),
    "/services/refresh": ("services", "services", "services"),
    "/service_links/refresh": ("service_links", "service_links", "service_links"),
    "/key/refresh": ("keys", "keys", "key"),
    "/key/acl/refresh": ("keys_acl", "keys_acl", "key acl"),
    "/key/keyset/refresh": ("keysets", "keysets", "keyset"),
    "/key/keyset-keys/refresh": ("keyset_keys", "keyset_keys", "keyset key"),
    "/salt/refresh": ("salts", "salts", "salt"),
    "/operators/refresh": ("operators", "operators", "operator"),
    "/partners/refresh": ("partners", "partners", "partner"),
}
PUBLIC_ONLY = ("/sites/refresh", "/client_side_keypairs/refresh", "/services/refresh", "/service_links/refresh")


def key_for(path: str) -> str:
    return OPTOUT if path in ("/operators/refresh", "/partners/refresh") else PUBLIC


def locations(document: dict[str, Any], member: str) -> list[str]:
    holder = document[member]
    return [entry["location"] for entry in (holder if isinstance(holder, list) else [holder])]


def fetched(core: Core, address: str) -> bytes:
    parts = urlsplit(address)
    response = core.call("GET", parts.path, query=dict(parse_qsl(parts.query)))
    assert response.status == 200, response.body
    return response.body


def stored_at(core: Core, path: str, key: str, **headers: str) -> str:
    """The path in the bucket that the address of an answer stands for."""
    response = core.get(path, key, **headers)
    assert response.status == 200, response.body
    return urlsplit(locations(members(response), NAMES[path][1])[0]).path.removeprefix("/files/")


@pytest.mark.parametrize("path", NAMES)
def test_metadata_come_whole_with_addresses_that_work(core: Core, path: str) -> None:
    store, member, _ = NAMES[path]
    response = core.get(path, key_for(path))
    given, answered = json.loads((STORES / store / "metadata.json").read_bytes()), members(response)
    for location, address in zip(locations(given, member), locations(answered, member), strict=True):
        assert address.startswith(f"http://core:8088/files/{location}?")
        assert fetched(core, address) == (core.bucket / location).read_bytes()
    for entry, answer in zip(*(_holders(document[member]) for document in (given, answered)), strict=True):
        assert {**answer, "location": entry["location"]} == entry
    assert {**answered, member: None} == {**given, member: None}


def _holders(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [value]


def test_unknown_members_are_kept_and_the_answer_is_compact(core: Core) -> None:
    file = core.bucket / "clients/metadata.json"
    document = json.loads(file.read_bytes()) | {"future": {"a": [1, None]}}
    document["client_keys"]["more"] = "x"
    file.write_text(json.dumps(document))
    response = core.get("/clients/refresh", PUBLIC)
    answered = members(response)
    assert (answered["future"], answered["client_keys"]["more"]) == ({"a": [1, None]}, "x")
    assert b'": ' not in response.body


@pytest.mark.parametrize("path", PUBLIC_ONLY)
def test_endpoints_for_public_operators_only(core: Core, path: str) -> None:
    response = core.get(path, PRIVATE)
    message = f"endpoint {path} is for public operators only"
    assert (response.status, members(response)) == (403, {"status": "error", "message": message})


def break_store(core: Core, store: str, how: str) -> None:
    file = core.bucket / store / "metadata.json"
    if how == "missing":
        file.unlink()
    elif how == "no json":
        file.write_text("{")
    else:
        document = json.loads(file.read_bytes())
        member = "client_keys" if store == "clients" else store
        document[member] = {} if store != "salts" else [{}]
        file.write_text(json.dumps(document))


@pytest.mark.parametrize("how", ["missing", "no json", "no location"])
@pytest.mark.parametrize("path", NAMES)
def test_stores_that_cannot_be_read(core: Core, path: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    store, _, title = NAMES[path]
    break_store(core, store, how)
    response = core.get(path, key_for(path))
    wanted = {"status": "error", "message": f"error processing {title} refresh"}
    assert (response.status, members(response)) == (500, wanted)
    assert f"{store}/metadata.json" in caplog.text


def test_a_salt_list_that_is_none(core: Core) -> None:
    file = core.bucket / "salts/metadata.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"salts": "x"}))
    assert core.get("/salt/refresh", PUBLIC).status == 500


@pytest.mark.parametrize("path", NAMES)
def test_a_record_without_a_site(start: Callable[..., Core], path: str) -> None:
    def without_sites(records: list[dict[str, Any]]) -> None:
        for record in records:
            del record["site_id"]

    core = start(operators=without_sites)
    # A key that names its site is looked for among the records of that site.
    key = "OPLCLAjLRWcVlCDl9+BbwR38gzxYdiWFa751ynWLuI7JU4iA="
    response = core.get(path, key)
    if key_for(path) == OPTOUT:
        assert response.status == 401
        return
    title = NAMES[path][2]
    wanted = {"status": "error", "message": f"error processing {title} refresh"}
    assert (response.status, members(response)) == (500, wanted)


# Scopes (8.3).

SPLIT = ("/clients/refresh", "/key/refresh", "/key/acl/refresh", "/key/keyset/refresh", "/key/keyset-keys/refresh")


@pytest.mark.parametrize("path", SPLIT)
@pytest.mark.parametrize(
    ("key", "encrypted", "site_data", "folder"),
    [
        (PUBLIC, None, True, ""),
        (PUBLIC, "false", True, ""),
        (PUBLIC, "true", True, "encrypted/999_public/"),
        (PUBLIC, "TRUE", False, "encrypted/999_public/"),
        (PRIVATE, None, False, ""),
        (PRIVATE, "true", False, "encrypted/999_public/"),
        (PRIVATE, None, True, "site/999/"),
        (PRIVATE, "True", True, "encrypted/999_private/"),
    ],
)
def test_scopes_of_split_stores(
    start: Callable[..., Core], path: str, key: str, encrypted: str | None, site_data: bool, folder: str
) -> None:
    core = start(provide_private_site_data=site_data)
    headers = {} if encrypted is None else {"encrypted": encrypted}
    store = NAMES[path][0]
    assert stored_at(core, path, key, **headers) == f"{store}/{folder}{store}.json"


@pytest.mark.parametrize(
    ("key", "encrypted", "folder"),
    [
        (PUBLIC, "", ""),
        (PRIVATE, "", ""),
        (PUBLIC, "true", "encrypted/999_public/"),
        (PRIVATE, "true", "encrypted/999_private/"),
    ],
)
@pytest.mark.parametrize("site_data", [True, False])
def test_scopes_of_salts(start: Callable[..., Core], key: str, encrypted: str, folder: str, site_data: bool) -> None:
    core = start(provide_private_site_data=site_data)
    assert stored_at(core, "/salt/refresh", key, encrypted=encrypted).startswith(f"salts/{folder}salts.txt.")


@pytest.mark.parametrize(
    "path", ["/services/refresh", "/service_links/refresh", "/operators/refresh", "/partners/refresh"]
)
def test_stores_that_are_never_split(core: Core, path: str) -> None:
    store = NAMES[path][0]
    assert stored_at(core, path, key_for(path), encrypted="true") == f"{store}/{store}.json"


@pytest.mark.parametrize("site_data", [True, False])
def test_private_operators_with_client_side_tokens(start: Callable[..., Core], site_data: bool) -> None:
    core = start(private_operator_cstg=True, provide_private_site_data=site_data)
    for store, path in (("sites", "/sites/refresh"), ("client_side_keypairs", "/client_side_keypairs/refresh")):
        for folder, encrypted in (("site/999", ""), ("encrypted/999_private", "true")):
            target = core.bucket / store / folder
            target.mkdir(parents=True, exist_ok=True)
            location = f"{store}/{folder}/{store}.json"
            (target / "metadata.json").write_text(json.dumps({"version": 1, store: {"location": location}}))
            assert stored_at(core, path, PRIVATE, encrypted=encrypted) == location
        assert stored_at(core, path, PUBLIC) == f"{store}/{store}.json"
    assert core.get("/services/refresh", PRIVATE).status == 403


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("metadata.json", "site/5/metadata.json"),
        ("a/b/metadata.json", "a/b/site/5/metadata.json"),
        ("/com.uid2.core/test/sites/metadata.json", "/com.uid2.core/test/sites/site/5/metadata.json"),
    ],
)
def test_scopes_lie_beside_the_global_file(path: str, wanted: str) -> None:
    caller = Caller(SiteId(5), private=True, encrypted=False, site_data=True)
    assert metadata_path(path, Split.BY_SITE, caller) == wanted
    assert metadata_path(path, Split.NEVER, caller) == path


def test_mock_stores_go_the_same_way(start: Callable[..., Core], tmp_path: Path) -> None:
    core = start(
        core_s3_bucket=None,
        storage_mock=True,
        storage_mock_root=str(tmp_path / "bucket"),
        clients_metadata_path="/clients/metadata.json",
    )
    address = locations(members(core.get("/clients/refresh", PUBLIC)), "client_keys")[0]
    assert fetched(core, address) == (core.bucket / "clients/clients.json").read_bytes()
