"""`uid2 inspect delta` on every opt-out vector."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from uid2.cli.main import app

VECTORS = Path(__file__).parents[2] / "vectors/optout"
MANIFEST: dict[str, Any] = json.loads((VECTORS / "manifest.json").read_bytes())
FILES: dict[str, dict[str, Any]] = MANIFEST["files"]
PEOPLE = {person["label"]: person["advertising_id"] for person in MANIFEST["people"]}


def inspect(file: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["inspect", "delta", str(file), *options])
    assert result.exit_code == 0, result.exception
    return result.stdout


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_explained(name: str) -> None:
    file = FILES[name]
    text = inspect(VECTORS / name, "--entries", "2000")
    assert f"{file['size']} bytes, {file['entries']} entries of 72" in text
    assert f"kind                 {file['type']}" in text
    assert ("(synthetic)" in text) == (file["replica_id"] == 999)
    assert ("torn end" in text) == bool(file.get("damaged"))
    records = file.get("records", [])
    for record in records:
        # In synthetic files both are the same.
        if record["identity_hash"] != record["advertising_id"]:
            assert record["identity_hash"] not in text
        if record["metadata"] < 64 and record["special"] is None:
            assert record["advertising_id"] in text
    if records:
        special = sum(record["special"] is not None for record in records)
        assert text.count("special: ") == special
        assert f"{len(records) - special}, and {special} special entries" in text
    if file["type"] == "partition":
        assert "ascending by identity hash, each once" in text


def test_the_first_byte_of_version_4_is_restored() -> None:
    (name,) = (name for name in FILES if name.endswith("014e024f.dat"))
    prod = inspect(VECTORS / name, "--entries", "20")
    integ = inspect(VECTORS / name, "--entries", "20", "--environment", "integ")
    assert PEOPLE["v4 prod email"] in prod
    assert PEOPLE["v4 prod email"] in integ
    assert "version 4, UID2 e-mail, 33 bytes" in prod
    assert PEOPLE["v4 integ email"] in integ
    assert PEOPLE["v4 integ email"] not in prod


def test_a_partition_out_of_order_is_called_damaged(tmp_path: Path) -> None:
    (name,) = (name for name in FILES if name.endswith("014e024f.dat"))
    data = (VECTORS / name).read_bytes()
    (tmp_path / name).write_bytes(data[72:144] + data[:72] + data[144:])
    assert "NOT ascending" in inspect(tmp_path / name)
