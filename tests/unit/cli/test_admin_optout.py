"""`uid2 admin optout …` on a bucket: find, check, clean, halt."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from uid2.cli.main import app
from uid2.optout.listing import delta_path, partition_path
from uid2.optout.partitions import merged_entries
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, encode_entry, end_entry, start_entry

VECTORS = Path(__file__).parents[2] / "vectors"
MANIFEST: dict[str, Any] = json.loads((VECTORS / "optout/manifest.json").read_bytes())
SALT = MANIFEST["first_level_salt"]
PEOPLE = {person["label"]: person for person in MANIFEST["people"]}
DAY = 86_400
OLD = 1_600_000_000


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """Every whole vector file, where it belongs."""
    for name, file in MANIFEST["files"].items():
        if not file.get("damaged"):
            put(tmp_path, file["cloud_key"], (VECTORS / "optout" / name).read_bytes())
    metadata = {
        "version": 1,
        "generated": 1,
        "first_level": SALT,
        "id_prefix": "a",
        "id_secret": base64.b64encode(bytes(32)).decode(),
        "salts": [{"effective": 1, "expires": 2, "location": "salts/none", "size": 1}],
    }
    put(tmp_path, "salts/metadata.json", json.dumps(metadata).encode())
    return tmp_path


def put(bucket: Path, key: str, data: bytes) -> Path:
    path = bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def run(bucket: Path, *words: str, options: tuple[str, ...] = (), answer: str | None = None) -> Result:
    place = ["--bucket", f"file://{bucket}"]
    result = CliRunner().invoke(
        app, ["admin", "--store", str(bucket), *options, "optout", *place, *words], input=answer
    )
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


def found(bucket: Path, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(bucket, "lookup", *words, options=("--json",)).stdout)
    return document


def delta(entries: list[OptOutEntry], at: int) -> bytes:
    window = (start_entry(EpochSeconds(at)), *entries, end_entry(EpochSeconds(at + 300)))
    return b"".join(map(encode_entry, window))


def person(number: int, at: int) -> OptOutEntry:
    return OptOutEntry(number.to_bytes(32, "big"), b"\x07" * 28 + number.to_bytes(4, "big"), EpochSeconds(at))


@pytest.mark.parametrize("label", [label for label, person in PEOPLE.items() if "@" in person["identity"]])
def test_a_person_is_found_by_all_that_names_them(bucket: Path, label: str) -> None:
    one = PEOPLE[label]
    expected = next(v for v in MANIFEST["identity_lookups"] if v["first_level_hash"] == one["first_level_hash"])
    by_email = found(bucket, one["identity"])
    assert bool(by_email["found"]) == (expected["expected"] != -1)
    assert by_email["problems"] == []
    for words in (
        (one["identity_hash"], "--kind", "email_hash"),
        (one["first_level_hash"], "--kind", "first_level_hash"),
    ):
        assert found(bucket, *words) == by_email
    # The ways lead to the same entries, as far as the ID still is the one of that time.
    by_id = found(bucket, one["advertising_id"], "--kind", "advertising_id")
    assert {row["file"] for row in by_id["found"]} <= {row["file"] for row in by_email["found"]}


def test_a_phone_number_is_found(bucket: Path) -> None:
    one = PEOPLE["v2 phone"]
    by_number = found(bucket, one["identity"])
    assert by_number["found"]
    assert found(bucket, one["identity_hash"], "--kind", "phone_hash") == by_number


def test_what_is_not_there_is_said_plainly(bucket: Path) -> None:
    text = run(bucket, "lookup", "nobody@example.com").stdout
    assert text.startswith("no entry was found in 8 files")
    result = run(bucket, "lookup", PEOPLE["v2 email"]["identity"])
    assert "opted out since" in result.stdout
    assert PEOPLE["v2 email"]["identity"] not in result.stdout


@pytest.mark.parametrize("label", [label for label in PEOPLE if label.startswith("v4 prod")])
def test_the_first_byte_of_version_4_is_restored(bucket: Path, label: str) -> None:
    identifier = PEOPLE[label]["advertising_id"]
    assert [row["advertising ID"] for row in found(bucket, identifier, "--kind", "advertising_id")["found"]] == [
        identifier
    ] * len(found(bucket, PEOPLE[label]["first_level_hash"], "--kind", "first_level_hash")["found"])


def test_special_entries_are_nobody(bucket: Path) -> None:
    nobody = base64.b64encode(bytes(32)).decode()
    assert found(bucket, nobody, "--kind", "advertising_id")["found"] == []
    with pytest.raises(ConfigurationError, match="stands for nobody"):
        run(bucket, "lookup", nobody, "--kind", "first_level_hash")


def test_every_entry_of_a_long_partition_is_found_by_bisection(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uid2.optout.entry_files.PIECE_ENTRIES", 0)  # a scan would fail
    (name,) = (name for name, file in MANIFEST["files"].items() if file.get("generator"))
    shutil.rmtree(bucket / "optout/delta")
    shutil.rmtree(bucket / "optout/synthetic")
    data = (VECTORS / "optout" / name).read_bytes()
    for number in (1, 2, 750, 1499, 1500):
        wanted = base64.b64encode(data[72 * number : 72 * number + 32]).decode()
        rows = found(bucket, wanted, "--kind", "first_level_hash")["found"]
        assert [(row["entry"], row["file"].endswith(name)) for row in rows] == [(number, True)]


def test_an_unsorted_partition_hides_nobody(tmp_path: Path) -> None:
    rows = [encode_entry(person(n, OLD)) for n in (9, 8, 7, 6, 5, 4, 3, 2, 1)]
    put(tmp_path, partition_path("optout/", 0, EpochSeconds(OLD), 1), b"".join(rows))
    for number in range(1, 10):
        wanted = base64.b64encode(number.to_bytes(32, "big")).decode()
        assert len(found(tmp_path, wanted, "--kind", "first_level_hash")["found"]) == 1
    assert "out of order" in run(tmp_path, "verify").stdout


def test_pieces_meet_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uid2.optout.entry_files.PIECE_ENTRIES", 2)
    put(tmp_path, delta_path("optout/", 0, EpochSeconds(OLD), 1), delta([person(n, OLD) for n in range(1, 8)], OLD))
    for number in range(1, 8):
        identifier = base64.b64encode(person(number, OLD).advertising_id).decode()
        (row,) = found(tmp_path, identifier, "--kind", "advertising_id")["found"]
        assert row["entry"] == number


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("somebody",), "does not show"),
        (("AAAA", "--kind", "first_level_hash"), "no base64 of 32 bytes"),
        (("**", "--kind", "advertising_id"), "no base64 of 32 or 33 bytes"),
        (("a@b@c",), "no email"),
        (("+123",), "no phone"),
    ],
)
def test_what_cannot_be_looked_for_is_refused_without_quoting_it(
    bucket: Path, words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        run(bucket, "lookup", *words)
    assert caught.value.next_step
    assert words[0] not in caught.value.message


def test_whole_files_have_no_fault(bucket: Path) -> None:
    # Two of the vectors are unusual on purpose: an empty delta, and an entry of the time 0.
    result = run(bucket, "verify", options=("--json",))
    document = json.loads(result.stdout)
    assert [(f["kind"], f["what"][:14]) for f in document["findings"] if f["kind"] == "fault"] == [
        ("fault", "the time of an")
    ]
    assert result.exit_code == 1
    assert document["files"] == 8


@pytest.mark.parametrize(
    ("key", "data", "what"),
    [
        (delta_path("optout/", 0, EpochSeconds(OLD), 1), delta([person(1, OLD)], OLD)[:-9], "belong to no entry"),
        ("optout/delta/2020-09-13/notes.txt", b"x", "not named as an opt-out file"),
        (partition_path("optout/", 0, EpochSeconds(OLD), 1), b"", "is empty"),
        (partition_path("optout/", 0, EpochSeconds(OLD), 1), encode_entry(person(1, OLD)) * 2, "there twice"),
        (delta_path("optout/", 0, EpochSeconds(OLD), 1), encode_entry(person(1, 0)), "time of an entry is 0"),
        (
            delta_path("optout/", 0, EpochSeconds(OLD), 1),
            encode_entry(person(1, OLD))[:-1] + b"\x80",
            "of no known version",
        ),
    ],
)
def test_each_fault_is_named_with_its_file(tmp_path: Path, key: str, data: bytes, what: str) -> None:
    put(tmp_path, key, data)
    result = run(tmp_path, "verify", options=("--json",))
    faults = [row for row in json.loads(result.stdout)["findings"] if row["kind"] == "fault"]
    assert [(row["file"], what in row["what"]) for row in faults] == [(key, True)]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("key", "data", "what"),
    [
        (
            "optout/delta/2020-01-01/" + delta_path("optout/", 0, EpochSeconds(OLD), 1).rsplit("/", 1)[1],
            None,
            "elsewhere",
        ),
        (delta_path("optout/", 0, EpochSeconds(OLD), 1), encode_entry(person(1, OLD)), "begin and end"),
        (delta_path("optout/", 0, EpochSeconds(OLD), 1), delta([person(1, 1 << 40)], OLD), "in the future"),
        (delta_path("optout/", 0, EpochSeconds(OLD), 1), b"", "is empty"),
    ],
)
def test_what_is_unusual_and_harmless_is_a_remark(tmp_path: Path, key: str, data: bytes | None, what: str) -> None:
    put(tmp_path, key, delta([person(1, OLD)], OLD) if data is None else data)
    result = run(tmp_path, "verify", options=("--json",))
    (row,) = json.loads(result.stdout)["findings"]
    assert (row["kind"], what in row["what"], result.exit_code) == ("remark", True, 0)


def two_days(bucket: Path) -> tuple[Path, Path]:
    """A delta whose opt-outs the next partition holds, and one of which it lacks an opt-out; a newer partition."""
    held = delta([person(1, OLD), person(2, OLD + 5)], OLD)
    lost = delta([person(2, OLD + 9), person(3, OLD + 9)], OLD)
    first = put(bucket, delta_path("optout/", 0, EpochSeconds(OLD), 1), held)
    second = put(bucket, delta_path("optout/", 0, EpochSeconds(OLD + 10), 2), lost)
    put(bucket, partition_path("optout/", 0, EpochSeconds(OLD + DAY), 3), merged_entries([("held", held)]))
    put(bucket, partition_path("optout/", 0, EpochSeconds(OLD + 2 * DAY), 4), delta([], OLD))
    return first, second


def test_deltas_go_only_when_partitions_hold_their_opt_outs(tmp_path: Path) -> None:
    held, lost = two_days(tmp_path)
    result = run(tmp_path, "gc", "--yes")
    assert (held.exists(), lost.exists()) == (False, True)
    assert "no partition holds 2 of its opt-outs" in result.stdout
    assert "deleted 1 deltas, kept 1" in result.stderr


@pytest.mark.parametrize(("options", "answer"), [(("--dry-run",), None), ((), "n\n")])
def test_nothing_goes_unasked(tmp_path: Path, options: tuple[str, ...], answer: str | None) -> None:
    held, lost = two_days(tmp_path)
    run(tmp_path, "gc", options=options, answer=answer)
    assert (held.exists(), lost.exists()) == (True, True)


def test_a_torn_delta_is_kept(tmp_path: Path) -> None:
    held, _ = two_days(tmp_path)
    held.write_bytes(held.read_bytes() + b"x")
    assert "belong to no entry" in run(tmp_path, "gc", "--yes").stdout
    assert held.exists()


def test_young_deltas_and_those_without_a_partition_are_not_asked_about(bucket: Path, tmp_path: Path) -> None:
    shutil.rmtree(bucket / "optout/partition")
    assert "nothing expired" in run(bucket, "gc", "--yes").stderr


def test_the_list_names_every_file(bucket: Path) -> None:
    rows = json.loads(run(bucket, "list", options=("--json",)).stdout)
    assert sorted(row["file"] for row in rows) == sorted(
        file["cloud_key"] for file in MANIFEST["files"].values() if not file.get("damaged")
    )
    assert {row["file"]: row["entries"] for row in rows} == {
        file["cloud_key"]: file["entries"] for file in MANIFEST["files"].values() if not file.get("damaged")
    }


def test_the_breaker_is_set_shown_and_reset(bucket: Path) -> None:
    shown: Callable[[], dict[str, Any]] = lambda: json.loads(run(bucket, "breaker", "show", options=("--json",)).stdout)  # noqa: E731
    assert (shown()["production"], shown()["halted since"]) == ("goes on", None)
    run(bucket, "breaker", "set", "--reason", "a flood", "--yes")
    assert json.loads((bucket / "optout/manual-override.json").read_bytes())["manual_override"] == "DELAYED_PROCESSING"
    assert (shown()["production"], shown()["halted because"]) == ("halted", "a flood")
    run(bucket, "breaker", "reset", answer="n\n")
    assert shown()["production"] == "halted"
    run(bucket, "breaker", "reset", "--yes", options=("--dry-run",))
    assert shown()["production"] == "halted"
    run(bucket, "breaker", "reset", answer="y\n")
    assert shown()["production"] == "goes on"
    assert not (bucket / "optout/manual-override.json").exists()


def test_an_override_of_the_reference_is_understood(bucket: Path) -> None:
    put(bucket, "optout/manual-override.json", b'{"manual_override":"delayed_processing"}')
    shown = json.loads(run(bucket, "breaker", "show", options=("--json",)).stdout)
    assert (shown["production"], shown["halted since"]) == ("halted", None)


def test_a_mistyped_bucket_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no folder"):
        run(tmp_path / "typo", "list")
    assert not (tmp_path / "typo").exists()


def test_the_configuration_of_a_service_names_its_bucket(bucket: Path, tmp_path: Path) -> None:
    config = {
        "att_token_enc_key": "key",
        "att_token_enc_salt": "salt",
        "storage_mock_root": str(bucket),
        "optout_s3_bucket": f"file://{bucket}",
        "optout_data_dir": str(tmp_path / "data"),
        "manual_override_s3_path": "halt/here.json",
        "optout_partition_interval": 1,
        "optout_max_partitions": 1,
    }
    file = put(tmp_path, "optout.json", json.dumps(config).encode())

    def at_config(*words: str) -> Any:
        # Nobody listens on that port: what the service would say is left out.
        words = ("admin", "--json", "optout", "--config", str(file), *words)
        result = CliRunner().invoke(app, words, env={"port_offset": "57"})
        assert result.exception is None
        return json.loads(result.stdout) if result.stdout else None

    assert len(at_config("list")) == 8
    at_config("breaker", "set", "--yes")
    assert (bucket / "halt/here.json").exists()
    assert at_config("breaker", "show")["opt-outs that wait"].startswith("not known")
    # Its own lifespan of a second: three deltas are merged into the partition of the next day.
    assert [row["kept because"] for row in at_config("gc", "--yes")] == [None, None, None, None]
    assert [row["kind"] for row in at_config("list")] == ["partition", "partition, synthetic", "partition", "partition"]


def test_nothing_named_and_no_stack(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no opt-out service is named") as caught:
        raise (
            CliRunner().invoke(app, ["admin", "optout", "--state", str(tmp_path / "none"), "list"]).exception or OSError
        )
    assert "--bucket" in caught.value.next_step
