"""Importing lists of opt-outs into the application of the opt-out service."""

import asyncio
import base64
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "optout"))

from optout_stage import KEY, READER, OptOut

from uid2.bulk.engine import engine_named
from uid2.bulk.tables import SaltTable
from uid2.client import optout_import
from uid2.client.import_journal import ImportJournal
from uid2.client.optout_import import OptOutImport
from uid2.client.optout_rows import BadRow, OptOutRow, RowReader, Salting
from uid2.client.tables import open_table
from uid2.optout.routes import optout_application
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.identity import bucket_index, first_level_hash, raw_uid
from uid2.protocol.ids import Environment, EpochMillis, IdentityScope, IdentityType
from uid2.protocol.normalize import InputKind, identity_hash_from
from uid2.protocol.salts import parse_salt_lines, parse_salt_metadata
from uid2.protocol.secret import Secret

SALTS = Path(__file__).parents[2] / "vectors/stores/salts"
SERVICE = "http://optout.test:8081"
Answer = Callable[[httpx.Request], httpx.Response]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def salting() -> Salting:
    metadata = parse_salt_metadata((SALTS / "metadata.json").read_bytes(), EpochMillis(0))
    data = salt_file().read_bytes()
    table = SaltTable(engine_named("reference").pack_salt_file(data, metadata))
    return Salting(metadata.first_level, table, IdentityScope.UID2, Environment.TEST)


def salt_file() -> Path:
    metadata = parse_salt_metadata((SALTS / "metadata.json").read_bytes(), EpochMillis(0))
    return SALTS / metadata.salts[-1].location.rsplit("/", 1)[-1]


def read(tmp_path: Path, text: str) -> list[OptOutRow | BadRow]:
    file = tmp_path / "list.csv"
    file.write_text(text)
    with open_table(file) as table:
        return list(RowReader(table.columns, salting).read(table))


def rows(count: int, first: int = 1) -> list[OptOutRow]:
    return [
        OptOutRow(n + 1, n.to_bytes(4, "big") + b"\x07" * 28, b"\x01" + n.to_bytes(31, "big"))
        for n in range(first, first + count)
    ]


class Service(OptOut):
    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(optout_application(self.context, self.health))


async def bring(folder: Path, service: Service, what: list[OptOutRow | BadRow], **more: Any) -> OptOutImport:
    with ImportJournal(folder / "journal", SERVICE) as journal:
        work = OptOutImport(SERVICE, Secret(KEY.encode()), journal, transport=service.transport(), **more)
        await work.run(what)
    return work


@pytest.mark.parametrize(
    ("column", "kind", "text"),
    [
        ("email", InputKind.EMAIL, "Some.One+x@Gmail.com"),
        ("Phone", InputKind.PHONE, "+12025550199"),
        ("email_hash", InputKind.EMAIL_HASH, base64.b64encode(b"\x05" * 32).decode()),
        ("phone_hash", InputKind.PHONE_HASH, base64.b64encode(b"\x06" * 32).decode()),
    ],
)
def test_a_row_is_what_an_operator_sends_on_a_logout(tmp_path: Path, column: str, kind: InputKind, text: str) -> None:
    (row,) = read(tmp_path, f"{column},note\n{text},x\n")
    assert isinstance(row, OptOutRow)
    identity_hash = identity_hash_from(kind, text)
    assert identity_hash is not None
    flh = first_level_hash(identity_hash, salting().first_level)
    buckets = list(parse_salt_lines(salt_file().read_bytes()))
    bucket = buckets[bucket_index(flh, len(buckets))]
    phone = kind in (InputKind.PHONE, InputKind.PHONE_HASH)
    identity_type = IdentityType.PHONE if phone else IdentityType.EMAIL
    assert row.identity_hash == flh
    assert row.advertising_id == raw_uid(flh, bucket, IdentityScope.UID2, identity_type, Environment.TEST, False)


def test_bad_rows_are_named_by_their_number_and_not_quoted(tmp_path: Path) -> None:
    found = read(tmp_path, "email,phone\na@example.com,\nnope,+1\n,\nb@example.com,+12025550100\n")
    assert [row.number for row in found] == [2, 3, 3, 4, 5, 5]
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [row.why.split()[-1] for row in bad] == ["address", "digits", "identity"]
    assert not any("nope" in row.why for row in bad)


@pytest.mark.parametrize(
    ("hash_bytes", "id_bytes", "word"),
    [(31, 32, "identity_hash"), (33, 32, "identity_hash"), (32, 31, "advertising_id"), (32, 34, "advertising_id")],
)
def test_given_hashes_have_their_lengths_checked(tmp_path: Path, hash_bytes: int, id_bytes: int, word: str) -> None:
    cells = [base64.b64encode(b"\x09" * length).decode() for length in (hash_bytes, id_bytes)]
    (row,) = read(tmp_path, f"identity_hash,advertising_id\n{','.join(cells)}\n")
    assert isinstance(row, BadRow)
    assert word in row.why
    nobody = base64.b64encode(bytes(32)).decode()
    (special,) = read(tmp_path, f"identity_hash,advertising_id\n{nobody},{nobody}\n")
    assert isinstance(special, BadRow)


@pytest.mark.parametrize(
    "heading", ["name", "identity_hash", "advertising_id,email", "identity_hash,advertising_id,email"]
)
def test_columns_that_leave_it_unclear_are_refused(tmp_path: Path, heading: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"{heading}\n{',' * heading.count(',')}\n")
    assert caught.value.next_step


def test_the_same_list_twice_gives_each_entry_once(tmp_path: Path) -> None:
    async def work() -> None:
        service = await Service(tmp_path).start()
        listed: list[OptOutRow | BadRow] = [*rows(50), BadRow(99, "holds no identity"), *rows(5)]
        first = await bring(tmp_path, service, listed)
        assert (first.counts.sent, first.counts.repeated, dict(first.counts.refused)) == (
            50,
            5,
            {"holds no identity": 1},
        )
        await service.produce()
        second = await bring(tmp_path, service, [*rows(60)])
        assert (second.counts.sent, second.counts.repeated) == (10, 50)
        # Without the journal the ids of the calls do the same.
        (tmp_path / "journal").unlink()
        third = await bring(tmp_path, service, [*rows(60)])
        assert (third.counts.sent, third.counts.repeated) == (60, 0)
        await service.produce()
        assert service.recorded() == list(range(1, 61))

    run(work())


def test_batches_follow_each_other_and_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optout_import, "BATCH_ROWS", 7)

    async def work() -> None:
        service = await Service(tmp_path).start()
        steps: list[int] = []
        with ImportJournal(tmp_path / "journal", SERVICE) as journal:
            bringing = OptOutImport(SERVICE, Secret(KEY.encode()), journal, transport=service.transport())
            await bringing.run(rows(20), steps.append)
        assert steps == [7, 7, 6]
        await service.produce()
        assert service.recorded() == list(range(1, 21))

    run(work())


async def no_pause(_: float) -> None:
    return


@pytest.mark.parametrize("failing", ["answers 500", "is gone"])
def test_an_interrupted_import_goes_on_where_it_was(tmp_path: Path, failing: str) -> None:
    taken: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        if len(taken) >= 8:
            if failing == "is gone":
                raise httpx.ConnectError("refused")
            return httpx.Response(500)
        taken.append(request.headers["uid-trace-id"])
        return httpx.Response(200, text="1")

    async def attempt(handler: Answer) -> OptOutImport:
        with ImportJournal(tmp_path / "journal", SERVICE) as journal:
            work = OptOutImport(
                SERVICE, Secret(KEY.encode()), journal, transport=httpx.MockTransport(handler), sleep=no_pause
            )
            try:
                await work.run(rows(20))
            except DependencyError as error:
                failures.append(error)
            return work

    failures: list[DependencyError] = []
    first = run(attempt(answer))
    assert [("again" in error.next_step, "identity_hash" in error.message) for error in failures] == [(True, False)]
    assert first.counts.sent == len(taken) == 8
    later: list[str] = []

    def willing(request: httpx.Request) -> httpx.Response:
        later.append(request.headers["uid-trace-id"])
        return httpx.Response(200, text="1")

    second = run(attempt(willing))
    assert (second.counts.sent, second.counts.repeated) == (12, 8)
    assert len(set(taken) | set(later)) == 20
    assert not set(taken) & set(later)


def test_what_passes_is_sent_again_under_its_id(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["uid-trace-id"])
        return httpx.Response(503 if len(seen) < 3 else 200)

    async def work() -> OptOutImport:
        with ImportJournal(tmp_path / "journal", SERVICE) as journal:
            bringing = OptOutImport(
                SERVICE, Secret(KEY.encode()), journal, transport=httpx.MockTransport(answer), sleep=no_pause
            )
            await bringing.run(rows(1))
            return bringing

    assert run(work()).counts.sent == 1
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_key_without_the_role_stops_the_import(tmp_path: Path) -> None:
    async def work() -> None:
        service = await Service(tmp_path).start()
        with ImportJournal(tmp_path / "journal", SERVICE) as journal:
            bringing = OptOutImport(SERVICE, Secret(READER.encode()), journal, transport=service.transport())
            with pytest.raises(ConfigurationError, match="does not accept the operator key"):
                await bringing.run(rows(3))

    run(work())


def test_another_service_is_told_everything(tmp_path: Path) -> None:
    hashes = [row.identity_hash for row in rows(3)]
    with ImportJournal(tmp_path / "journal", SERVICE) as journal:
        journal.confirm(hashes[:2])
        assert journal.confirmed(hashes) == set(hashes[:2])
    with ImportJournal(tmp_path / "journal", "http://elsewhere") as journal:
        assert journal.confirmed(hashes) == set()


def test_the_journal_holds_no_identity_and_is_its_owners(tmp_path: Path) -> None:
    hashes = [row.identity_hash for row in rows(3)]
    with ImportJournal(tmp_path / "journal", SERVICE) as journal:
        journal.confirm(hashes)
    data = (tmp_path / "journal").read_bytes()
    assert not any(one in data for one in hashes)
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        ImportJournal(tmp_path / "journal", SERVICE)
    assert (tmp_path / "journal").read_bytes() == b"something else" * 100
