import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.errors import StoreFormatError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import (
    OptOutEntry,
    OptOutFileName,
    decode_entry,
    encode_entry,
    end_entry,
    iter_entries,
    start_entry,
)

FOLDER = Path(__file__).parents[2] / "vectors" / "optout"
MANIFEST = json.loads((FOLDER / "manifest.json").read_bytes())
PEOPLE = {person["first_level_hash"]: person for person in MANIFEST["people"]}


@pytest.mark.parametrize("name", [name for name, file in MANIFEST["files"].items() if file.get("records")])
def test_vector_files(name: str) -> None:
    expected = MANIFEST["files"][name]["records"]
    data = (FOLDER / name).read_bytes()
    whole = data[: len(data) - len(data) % 72]
    entries = list(iter_entries(whole, Environment.TEST))
    for entry, record in zip(entries, expected, strict=False):
        assert entry.identity_hash == b64decode(record["identity_hash"])
        assert entry.timestamp == record["timestamp"]
        assert entry.special is (record["special"] is not None)
        # The vectors hold what the reference reads, without the two top bits of a version 4 ID.
        assert entry.advertising_id[-32:] == b64decode(record["advertising_id"])[-32:]
        assert entry.advertising_id[:-32] in (
            b64decode(record["advertising_id"])[:-32],
            b64decode(PEOPLE.get(record["identity_hash"], record)["advertising_id"])[:-32],
        )
        if record["metadata"] != 0x00 or len(entry.advertising_id) == 32:
            assert encode_entry(entry)[:71].hex() == record["hex"][:142]


@pytest.mark.parametrize("person", MANIFEST["people"], ids=lambda person: person["label"])
def test_version_4_survives_in_its_own_environment(person: dict[str, str]) -> None:
    identifier = b64decode(person["advertising_id"])
    home = {0x60: Environment.INTEG, 0x20: Environment.TEST}.get(identifier[0] & 0xE0, Environment.PROD)
    entry = OptOutEntry(b64decode(person["first_level_hash"]), identifier, EpochSeconds(5))
    assert decode_entry(encode_entry(entry), home) == entry


@pytest.mark.parametrize("name", ["legacy", "v3"])
def test_single_entries(name: str) -> None:
    vector = MANIFEST["single_entries"][name]
    entry = decode_entry(bytes.fromhex(vector["hex"]), Environment.PROD)
    assert entry.advertising_id.hex() == vector["advertising_id_hex"]
    assert entry.timestamp == vector["timestamp"]
    assert encode_entry(entry).hex() == vector["hex"]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, 2**56 - 1))
def test_entries_round_trip(identity_hash: bytes, identifier: bytes, timestamp: int) -> None:
    entry = OptOutEntry(identity_hash, identifier, EpochSeconds(timestamp))
    assert decode_entry(encode_entry(entry), Environment.PROD) == entry


def test_special_entries_and_sizes() -> None:
    start, end = encode_entry(start_entry(EpochSeconds(7))), encode_entry(end_entry(EpochSeconds(9)))
    assert start == bytes(64) + b"\x07" + bytes(7)
    assert end == b"\xff" * 64 + b"\x09" + bytes(7)
    assert all(entry.special for entry in iter_entries(start + end, Environment.TEST))
    for size in range(73, 144):
        with pytest.raises(StoreFormatError, match=f"size {size}"):
            list(iter_entries((start + end)[:size], Environment.TEST))
    for wrong in (
        OptOutEntry(bytes(31), bytes(32), EpochSeconds(1)),
        OptOutEntry(bytes(32), bytes(34), EpochSeconds(1)),
        OptOutEntry(bytes(32), bytes(32), EpochSeconds(1 << 56)),
        OptOutEntry(bytes(32), bytes(32), EpochSeconds(-1)),
    ):
        with pytest.raises(ValueError, match=r"bytes|time"):
            encode_entry(wrong)


@pytest.mark.parametrize("vector", MANIFEST["file_names"], ids=lambda vector: vector["path"])
def test_file_names(vector: dict[str, object]) -> None:
    name = OptOutFileName.parse(str(vector["path"]))
    assert name is not None
    assert (name.kind, name.created, name.replica, name.synthetic) == (
        vector["type"], vector["epoch"], vector["replica_id"], vector["synthetic"],
    )  # fmt: skip


@pytest.mark.parametrize("file", sorted(MANIFEST["files"]))
def test_file_names_are_written_as_read(file: str) -> None:
    name = OptOutFileName.parse(file)
    assert name is not None
    assert name.format() == file


def test_other_files_are_no_opt_out_files() -> None:
    assert OptOutFileName.parse("optout/sender-state/partner_timestamp.txt") is None


@pytest.mark.parametrize(
    ("text", "created"),
    [
        ("1970-01-01T00.00.00Z", 0),
        ("1969-12-31T23.59.59Z", -1),
        ("2024-02-29T23.59.59Z", 1_709_251_199),
        ("9999-12-31T23.59.59Z", 253_402_300_799),
        ("2023-02-29T00.00.00Z", None),
        ("0000-01-01T00.00.00Z", None),
        ("2024-13-01T00.00.00Z", None),
        ("2024-01-01T24.00.00Z", None),
        ("2024-01-01T00.00.60Z", None),
        ("2024-1-1T0.0.0Z", None),
        ("2024-01- 1T00.00.00Z", None),
        ("2024-01-01T00:00:00Z", None),
        ("2024-01-01T00.00.00", None),
        ("2024-01-01T00.00.00+00.00", None),
        ("2024-01-01T00.00.00Z\n", None),
        ("٢٠٢٤-01-01T00.00.00Z", None),
        ("", None),
    ],
)
def test_times_in_file_names(text: str, created: int | None) -> None:
    name = OptOutFileName.parse(f"optout-delta-000_{text}_0123abcd.dat")
    assert name is not None
    assert name.created == created
