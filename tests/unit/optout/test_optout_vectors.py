"""Every opt-out vector, read and written."""

import asyncio
import json
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import KEY, OptOut

from uid2.bulk.engine import engine_named
from uid2.bulk.tables import OptOutView
from uid2.optout.delta_files import delta_bytes
from uid2.optout.listing import for_operators, listed_files, refresh_document
from uid2.optout.messages import OptOutMessage
from uid2.optout.partitions import merged_entries
from uid2.optout.queue_records import read_records
from uid2.protocol.encoding import decode_base64
from uid2.protocol.errors import StoreFormatError
from uid2.protocol.identity import raw_uid
from uid2.protocol.ids import Environment, EpochMillis, EpochSeconds, FirstLevelHash, IdentityScope, IdentityType
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.optout_log import (
    ENTRY_LENGTH,
    OptOutEntry,
    OptOutFileName,
    decode_entry,
    encode_entry,
    end_entry,
    iter_entries,
    start_entry,
)
from uid2.protocol.salts import SaltBucket

VECTORS = Path(__file__).parents[2] / "vectors/optout"
MANIFEST: dict[str, Any] = json.loads((VECTORS / "manifest.json").read_bytes())
FILES: dict[str, dict[str, Any]] = MANIFEST["files"]
WHOLE = [name for name, file in FILES.items() if not file.get("damaged")]
ENGINES = ["reference", *(["native"] if find_spec("uid2_native") else [])]
NATIVE_OR_NOT = pytest.mark.parametrize("engine", ENGINES)


def data_of(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def as_the_reference_reads(entry: OptOutEntry) -> bytes:
    """The reference loses the two upper bits of a 33-byte id."""
    identifier = entry.advertising_id
    return identifier if len(identifier) == 32 else bytes((identifier[0] & 0x3F,)) + identifier[1:]


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_those_of_the_manifest(name: str) -> None:
    data, file = data_of(name), FILES[name]
    assert (len(data), sha256(data).hexdigest()) == (file["size"], file["sha256"])
    parsed = OptOutFileName.parse(file["cloud_key"])
    assert parsed is not None
    assert (parsed.kind, parsed.replica, parsed.created) == (file["type"], file["replica_id"], file["file_epoch"])
    assert parsed.format() == name


@pytest.mark.parametrize("name", [name for name in WHOLE if "records" in FILES[name]])
def test_every_record_is_read_and_written_again(name: str) -> None:
    records = FILES[name]["records"]
    entries = list(iter_entries(data_of(name), Environment.PROD))
    assert len(entries) == FILES[name]["entries"] == len(records)
    for entry, record in zip(entries, records, strict=True):
        assert entry.identity_hash == decode_base64(record["identity_hash"])
        assert as_the_reference_reads(entry) == decode_base64(record["advertising_id"])
        assert entry.timestamp == record["timestamp"]
        assert entry.special == (record["special"] is not None)
        assert encode_entry(entry).hex() == record["hex"]
    assert b"".join(map(encode_entry, entries)) == data_of(name)


@pytest.mark.parametrize("name", [name for name in WHOLE if FILES[name]["type"] == "delta" and FILES[name]["size"]])
def test_the_deltas_are_written_as_they_are(name: str) -> None:
    start, *entries, end = iter_entries(data_of(name), Environment.PROD)
    assert delta_bytes(entries, start.timestamp, end.timestamp) == data_of(name)


@pytest.mark.parametrize("name", [name for name in WHOLE if "merged_from" in FILES[name]])
def test_the_partition_is_what_its_deltas_merge_to(name: str) -> None:
    deltas = [(source, data_of(source)) for source in FILES[name]["merged_from"]]
    assert merged_entries(deltas) == data_of(name)
    # The empty delta adds nothing.
    assert merged_entries([*deltas, ("empty", b"")]) == data_of(name)


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name].get("generator")])
def test_the_generated_partition(name: str) -> None:
    rows = [
        OptOutEntry(
            sha256(f"optout-vector-h-{i}".encode()).digest(),
            sha256(f"optout-vector-a-{i}".encode()).digest(),
            EpochSeconds(1_720_470_400 + i),
        )
        for i in range(1500)
    ]
    start, *_, end = iter_entries(data_of(name), Environment.PROD)
    delta = delta_bytes(rows, start.timestamp, end.timestamp)
    assert merged_entries([("delta", delta)]) == data_of(name)


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name].get("damaged")])
def test_a_damaged_file_is_refused_and_named(name: str) -> None:
    with pytest.raises(StoreFormatError) as caught:
        merged_entries([(name, data_of(name))])
    assert name in caught.value.message
    assert caught.value.next_step


@NATIVE_OR_NOT
@pytest.mark.parametrize("environment", [Environment.PROD, Environment.INTEG])
def test_look_ups(tmp_path: Path, engine: str, environment: Environment) -> None:
    found = engine_named(engine)
    files = [VECTORS / name for name in MANIFEST["index_order"]]
    found.build_optout_index(files, tmp_path / "index", environment)
    view = OptOutView(found.open_optouts((tmp_path / "index").read_bytes()))
    for vector in MANIFEST["identity_lookups"]:
        at = view.timestamp_of_hash(FirstLevelHash(decode_base64(vector["first_level_hash"])))
        assert (at > 0) == vector["opted_out"], vector["label"]
        if vector["expected"] not in ("now", -1):
            assert at == vector["expected"], vector["label"]
    name = "prod" if environment is Environment.PROD else "integ"
    for vector in MANIFEST["advertising_id_lookups"]:
        since = view.timestamp_of_id(vector["advertising_id"])
        assert (-1 if since is None else since) == vector[f"recommended_{name}"], vector["label"]


@pytest.mark.parametrize("person", MANIFEST["people"], ids=lambda person: person["label"])
def test_people(person: dict[str, Any]) -> None:
    kind = InputKind.EMAIL if "@" in person["identity"] else InputKind.PHONE
    identity_hash = identity_hash_from(kind, person["identity"])
    assert identity_hash == decode_base64(person["identity_hash"])
    salted = person["identity_hash"] + MANIFEST["first_level_salt"]
    assert sha256(salted.encode()).hexdigest() == person["first_level_hash_hex"]


@pytest.mark.parametrize("vector", MANIFEST["file_names"], ids=lambda vector: vector["path"][:60])
def test_file_names(vector: dict[str, Any]) -> None:
    parsed = OptOutFileName.parse(vector["path"])
    assert parsed is not None
    assert (parsed.kind, parsed.created, parsed.replica) == (vector["type"], vector["epoch"], vector["replica_id"])
    assert parsed.synthetic == vector["synthetic"]


@pytest.mark.parametrize("name", MANIFEST["single_entries"])
def test_single_entries(name: str) -> None:
    vector = MANIFEST["single_entries"][name]
    entry = decode_entry(bytes.fromhex(vector["hex"]), Environment.PROD)
    assert entry.advertising_id.hex() == vector["advertising_id_hex"]
    assert entry.timestamp == vector["timestamp"]
    assert encode_entry(entry).hex() == vector["hex"]


def test_the_list_that_operators_get() -> None:
    vectors = MANIFEST["refresh_list"]
    for case in (vectors, vectors["without_newest_partition"]):
        files = listed_files(case["listed"])
        chosen = for_operators(files, vectors["rotate_interval"])
        assert {file.path for file in chosen} == set(case["returned"])
        document = refresh_document(files, vectors["rotate_interval"], EpochSeconds(0), lambda path: path)
        assert document["version"] == document["generated"] == case["version"]


def test_the_queued_message_and_its_entry() -> None:
    vector = MANIFEST["replicate_example"]
    message = OptOutMessage.decode(json.dumps(vector["message"]).encode())
    assert json.loads(message.encode()) == vector["message"]
    entry = message.entry(EpochSeconds(vector["sent_timestamp_ms"] // 1000))
    assert encode_entry(entry).hex() == vector["entry_hex"]


def test_special_entries_are_those_of_the_seed_file() -> None:
    (seed,) = (name for name in FILES if name.endswith("ffffffff.dat"))
    first, last = FILES[seed]["records"]
    start, end = (start_entry(EpochSeconds(first["timestamp"])), end_entry(EpochSeconds(last["timestamp"])))
    assert encode_entry(start) + encode_entry(end) == data_of(seed)


COVERED = {
    "files",
    "first_level_salt",
    "rotating_salt",
    "people",
    "index_order",
    "identity_lookups",
    "advertising_id_lookups",
    "single_entries",
    "file_names",
    "refresh_list",
    "replicate_example",
}
# The index has no bloom filter: the packed rows are searched by a guessed place, which costs as little.
NOT_USED = {"bloom"}
DESCRIPTIONS = {"format", "entry_size", "notes"}


def test_every_key_of_the_manifest_is_accounted_for() -> None:
    assert set(MANIFEST) == COVERED | NOT_USED | DESCRIPTIONS
    assert MANIFEST["entry_size"] == ENTRY_LENGTH


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name].get("damaged")])
def test_the_whole_entries_of_a_damaged_file_can_be_read(name: str) -> None:
    data = data_of(name)
    whole = data[: len(data) // ENTRY_LENGTH * ENTRY_LENGTH]
    entries = list(iter_entries(whole, Environment.PROD))
    assert [encode_entry(entry).hex() for entry in entries] == [record["hex"] for record in FILES[name]["records"]]
    assert len(entries) == FILES[name]["entries"]


@pytest.mark.parametrize(
    "person", [p for p in MANIFEST["people"] if p["id_version"] in (2, 3)], ids=lambda person: person["label"]
)
def test_the_advertising_ids_of_people(person: dict[str, Any]) -> None:
    flh = FirstLevelHash(decode_base64(person["first_level_hash"]))
    bucket = SaltBucket(1, EpochMillis(0), MANIFEST["rotating_salt"], EpochMillis(0), None, None, None)
    scope = IdentityScope.EUID if "EUID" in person["label"] else IdentityScope.UID2
    kind = IdentityType.EMAIL if "@" in person["identity"] else IdentityType.PHONE
    made = raw_uid(flh, bucket, scope, kind, Environment.TEST, person["id_version"] == 3)
    assert made.hex() == person["advertising_id_hex"]


def test_what_the_reference_finds_by_id_and_why_it_misses_version_4() -> None:
    """The reference reads ids without their two upper bits, takes special entries for people, keeps the earliest."""
    known: dict[bytes, int] = {}
    for name in MANIFEST["index_order"]:
        for entry in iter_entries(data_of(name), Environment.TEST):
            identifier = as_the_reference_reads(entry)
            known[identifier] = min(entry.timestamp, known.get(identifier, entry.timestamp))
    missed = []
    for vector in MANIFEST["advertising_id_lookups"]:
        found = known.get(decode_base64(vector["advertising_id"]), -1)
        assert found == vector["reference"], vector["label"]
        if found == -1 != vector["recommended_prod"]:
            missed.append(vector["label"])
    assert missed == ["v4 prod email", "v4 prod EUID phone"]


def test_the_list_of_files_through_the_application(tmp_path: Path) -> None:
    vectors = MANIFEST["refresh_list"]

    async def listed(folder: Path, paths: list[str]) -> dict[str, Any]:
        for path in paths:
            place = folder / "bucket" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data_of(path.rsplit("/", 1)[1]))
        interval = vectors["rotate_interval"]
        service = await OptOut(folder, optout_delta_rotate_interval=interval).start()
        answer = await service.http.get("/optout/refresh", headers={"Authorization": f"Bearer {KEY}"})
        document: dict[str, Any] = answer.json()
        for log in document["optout_logs"]:
            content = (await service.http.get(log["location"])).content
            assert content == data_of(unquote(urlsplit(log["location"]).path).rsplit("/", 1)[1])
            assert log["to"] - log["from"] == interval
        return document

    for number, case in enumerate((vectors, vectors["without_newest_partition"])):
        document = asyncio.run(listed(tmp_path / str(number), case["listed"]))
        paths = {unquote(urlsplit(log["location"]).path).removeprefix("/files/") for log in document["optout_logs"]}
        assert paths == set(case["returned"])
        assert document["version"] == document["generated"] == case["version"]
        for log in document["optout_logs"]:
            name = OptOutFileName.parse(log["location"])
            assert name is not None
            assert (log["type"], log["from"]) == (name.kind, name.created)


def test_the_message_of_the_application_is_the_documented_one_without_the_person(tmp_path: Path) -> None:
    vector = MANIFEST["replicate_example"]
    members = {name: vector["message"][name] for name in ("email", "phone", "client_ip") if vector["message"][name]}

    async def work() -> None:
        service = await OptOut(tmp_path).start()
        service.clock.set(vector["sent_timestamp_ms"])
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = await service.http.post(
            "/optout/replicate", params=vector["query"], headers=headers, content=json.dumps(members)
        )
        assert answer.status_code == 200
        (segment,) = (tmp_path / "data/queue").glob("*.log")
        ((record, _),) = read_records(segment.read_bytes())
        assert json.loads(record.body) == vector["message"] | {"email": None, "phone": None}
        assert record.sent == vector["sent_timestamp_ms"]
        await service.produce()

    asyncio.run(work())
    (file,) = (tmp_path / "bucket").rglob("*.dat")
    assert file.read_bytes()[72:144].hex() == vector["entry_hex"]
