"""`uid2 admin …` as people type it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from uid2.cli.main import app
from uid2.protocol.errors import Uid2Error

MR_ENCLAVE = "ab" * 32


class Admin:
    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.key = folder / "log.pem"
        self.notes = ""

    def __call__(self, *words: str, options: tuple[str, ...] = ("--json",)) -> Any:
        """The JSON that the command prints."""
        text = self.text(*words, options=options)
        return json.loads(text)

    def text(self, *words: str, options: tuple[str, ...] = ()) -> str:
        variables = {"UID2_STORE": f"file://{self.store}", "UID2_LOG_KEY": str(self.key)}
        result = CliRunner().invoke(app, ["admin", *options, *words], env=variables)
        if result.exception is not None:
            raise result.exception
        self.notes = result.stderr
        return result.stdout


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    made = Admin(tmp_path)
    made("init", "--salts", "8", "--environment", "development")
    return made


def test_a_universe_from_nothing(admin: Admin) -> None:
    site = admin("site", "add", "Publisher", "--types", "publisher", "--domains", "www.example.com,example.org")
    client = admin("client", "add", "web", "--site", str(site["id"]), "--roles", "generator,MAPPER")
    operator = admin("operator", "add", "op", "--site", str(site["id"]), "--type", "public")
    enclave = admin("enclave", "add", "build", "--enclave-id", MR_ENCLAVE)

    assert (site["id"], site["domains"]) == (3, ["example.com", "example.org"])
    assert client["key"].startswith("UID2-C-L-3-")
    assert client["roles"] == ["GENERATOR", "MAPPER"]
    assert operator["key"].startswith("UID2-O-L-3-")
    assert enclave["identifier"] == MR_ENCLAVE
    assert admin("site", "list")[0]["clients"] == 1
    assert [entry["action"] for entry in admin("enclave", "log")] == ["add"]
    assert "key" not in admin("client", "show", client["contact"])
    assert "wrote" not in admin.notes


def test_what_is_written_is_said(admin: Admin) -> None:
    admin("site", "add", "One")
    assert "wrote sites version" in admin.notes
    assert "0 -> 1 records" in admin.notes
    admin("site", "enable", "3")
    assert "nothing to change" in admin.notes


def test_a_dry_run_says_it_and_writes_nothing(admin: Admin) -> None:
    before = {path: path.read_bytes() for path in admin.store.rglob("*") if path.is_file()}
    admin("site", "add", "One", options=("--json", "--dry-run"))
    assert "would write sites" in admin.notes
    assert {path: path.read_bytes() for path in admin.store.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [
        ("site", "types", "3", "DSP"),
        ("site", "domains", "3", "example.net"),
        ("site", "apps", "3", "com.example"),
        ("site", "update", "3", "--name", "Other", "--hidden"),
        ("site", "disable", "3"),
        ("site", "show", "3"),
        ("client", "list", "--site", "3"),
        ("client", "reveal", "CONTACT"),
        ("client", "roles", "CONTACT", "SHARER"),
        ("client", "move", "CONTACT", "--site", "4"),
        ("client", "disable", "CONTACT"),
        ("client", "enable", "CONTACT"),
        ("client", "rename", "CONTACT", "--name", "n", "--contact", "c"),
        ("client", "delete", "CONTACT"),
        ("keyset", "list"),
        ("keyset", "show", "4"),
        ("keyset", "set", "--keyset", "4", "--allowed", "4", "--allowed-types", "DSP"),
        ("keyset", "sharing", "3"),
        ("keyset", "sharing", "3", "--set", "--allowed", "4"),
        ("keyset", "related", "3"),
        ("key", "list"),
        ("key", "rotate-master", "--min-age", "1", "--force"),
        ("key", "rotate-site", "3", "--min-age", "1", "--force"),
        ("key", "rotate-all-sites", "--min-age", "1"),
        ("key", "rotate-keyset", "4", "--min-age", "1"),
        ("salt", "snapshots"),
        ("salt", "rotate", "--fraction", "1/2"),
        ("salt", "rebuild"),
        ("operator", "list"),
        ("operator", "show", "op"),
        ("operator", "reveal", "op"),
        ("operator", "update", "op", "--site", "4", "--type", "private"),
        ("operator", "roles", "op", "OPERATOR,OPTOUT"),
        ("operator", "disable", "op"),
        ("operator", "enable", "op"),
        ("operator", "delete", "op"),
        ("enclave", "list"),
        ("enclave", "delete", "build"),
        ("service", "list"),
        ("service", "show", "1"),
        ("service", "update", "1", "--name", "other", "--disable"),
        ("service", "remove-link-id-regex", "1"),
        ("link", "list"),
        ("link", "update", "link", "--service", "1", "--disable"),
        ("link", "delete", "link", "--service", "1"),
        ("keypair", "list"),
        ("keypair", "reveal", "PAIR"),
        ("keypair", "update", "PAIR", "--name", "n"),
        ("keypair", "delete", "PAIR"),
        ("partner", "list"),
        ("partner", "show", "partner"),
        ("partner", "update", "partner", "--url", "https://other.example/"),
        ("partner", "delete", "partner"),
        ("cloud-key", "list"),
        ("cloud-key", "backfill"),
        ("cloud-key", "rotate"),
        ("files", "refresh-private-sites"),
        ("files", "sync-encrypted"),
    ],
    ids=" ".join,
)
def test_every_command_answers(words: tuple[str, ...], whole: tuple[Admin, dict[str, str]], tmp_path: Path) -> None:
    import shutil

    first, names = whole
    shutil.copytree(first.store, tmp_path / "store")
    admin = Admin(tmp_path)
    admin.key = first.key
    given = [names.get(word, word) for word in words]

    found = admin(*given)

    shutil.rmtree(tmp_path / "store")
    shutil.copytree(first.store, tmp_path / "store")
    shown = admin.text(*given)
    first_row = found[0] if isinstance(found, list) and found else found
    assert all(str(name) in shown for name in first_row) if first_row else shown == "none\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Admin, dict[str, str]]:
    """A store with one of each, and the names that were made up for it."""
    admin = Admin(tmp_path_factory.mktemp("whole"))
    admin("init", "--salts", "500")
    admin("site", "add", "One")
    admin("site", "add", "Two")
    client = admin("client", "add", "web", "--site", "3", "--roles", "GENERATOR")
    admin("operator", "add", "op", "--site", "3")
    admin("enclave", "add", "build", "--enclave-id", MR_ENCLAVE)
    admin("service", "add", "service", "3", "--roles", "MAPPER", "--link-id-regex", "l.*")
    admin("link", "add", "link", "--service", "1", "--site", "4", "--roles", "MAPPER")
    pair = admin("keypair", "add", "3")
    admin("partner", "add", "partner", "--url", "https://partner.example/", "--header", "Authorization: hidden")
    return admin, {"CONTACT": client["contact"], "PAIR": pair["subscription id"]}


def test_values_of_headers_are_not_shown(whole: tuple[Admin, dict[str, str]]) -> None:
    assert "hidden" not in whole[0].text("partner", "list")
    assert "Authorization" in whole[0].text("partner", "list")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("client", "add", "x", "--site", "3", "--roles", "KING"), "unknown role: KING"),
        (("site", "types", "3", "CIRCUS"), "unknown type of site"),
        (("enclave", "add", "x"), "exactly one"),
        (("enclave", "add", "x", "--record", "/nowhere"), "cannot be read"),
        (("enclave", "add", "x", "--enclave-id", "12"), "64 hexadecimal digits"),
        (("keyset", "set", "--keyset", "4", "--allowed", "four"), "whole numbers"),
        (("partner", "replace-all", "/nowhere"), "cannot be read"),
        (("salt", "rotate", "--fraction", "x"), "no number"),
        (("salt", "rotate", "--fraction", "2"), "above 0 and at most 1"),
        (("salt", "rotate", "--fraction", "1", "--date", "31.1."), "the date is none"),
        (("salt", "rotate", "--fraction", "1", "--date", "2020-01-01"), "equal or prior"),
        (("init",), "stores in this folder already"),
    ],
)
def test_mistakes_are_explained(words: tuple[str, ...], says: str, whole: tuple[Admin, dict[str, str]]) -> None:
    with pytest.raises(Uid2Error, match=says) as refusal:
        whole[0].text(*words)
    assert refusal.value.next_step
