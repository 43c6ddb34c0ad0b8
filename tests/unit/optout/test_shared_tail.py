"""What an instance took is in the live tail of every other one that shares the bucket."""

import asyncio
import base64
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cloud_stage import Cloud, machines, members
from optout_stage import OptOut

from uid2.optout.bucket import FolderBucket, RenamingBucket
from uid2.optout.claims import KEPT_SECONDS, VOID_SECONDS, ClaimBook
from uid2.optout.messages import OptOutMessage, QueuedMessage
from uid2.optout.queue_records import Record
from uid2.optout.tail_objects import MOST_FAILURES, TailObjects
from uid2.protocol.errors import StoreUnavailableError
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock, SystemClock

HOUR_MS = 3600 * 1000
SETTLE_MS = 240_000


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.stop()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def numbers(page: dict[str, Any]) -> list[int]:
    return [int.from_bytes(base64.b64decode(entry["identity_hash"])[:4], "big") for entry in page["entries"]]


async def follow(service: OptOut, cursor: str, count: int) -> tuple[list[int], str]:
    """The next `count` opt-outs of a tail; fails when one does not come."""
    found: list[int] = []
    while len(found) < count:
        page = await service.tail(cursor, wait=20)
        assert page["entries"], f"{count - len(found)} opt-outs did not come"
        assert not page["gap"]
        found += numbers(page)
        cursor = page["cursor"]
    return found, cursor


def objects(service: OptOut) -> list[str]:
    return service.context.bucket.list("optout/tail/")


@pytest.mark.parametrize("kind", ["SQS and S3", "local queues and S3", "local queues and a folder"])
def test_every_instance_tells_what_any_took(tmp_path: Path, cloud: Cloud, kind: str) -> None:
    async def work() -> None:
        queue = cloud.queue() if kind.startswith("SQS") else None
        services = list(machines(tmp_path, 3, cloud, queue))
        if kind.endswith("folder"):
            shared = {"optout_s3_bucket": f"file://{tmp_path / 'bucket'}", "optout_shared_tail": "on"}
            services = [OptOut(tmp_path / f"machine{n}", **shared) for n in range(3)]
        cursors = [(await (await service.start()).tail())["cursor"] for service in services]
        assert len({cursor.split("-")[0] for cursor in cursors}) == 3
        for n in range(12):
            assert (await services[n % 2].replicate(n, f"t{n}" if n % 3 else None)).status_code == 200
        for service, cursor in zip(services, cursors, strict=True):
            found, after = await follow(service, cursor, 12)
            assert sorted(found) == list(range(12))
            # Those of one instance stay in their order.
            assert [n for n in found if n % 2 == 0] == list(range(0, 12, 2))
            assert (await service.tail(after))["entries"] == []
        await services[2].context.shared.merge()
        assert (await services[2].tail((await services[2].tail())["cursor"]))["entries"] != []

    run(work())


def test_processes_of_one_machine_share_the_log(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        one, two = [OptOut(tmp_path / "machine", **members(cloud, queue, bucket)) for _ in range(2)]
        other = OptOut(tmp_path / "other", **members(cloud, queue, bucket))
        cursors = [(await (await service.start()).tail())["cursor"] for service in (one, two, other)]
        assert cursors[0] == cursors[1]
        for n in range(9):
            await (one, two, other)[n % 3].replicate(n)
        pages = [await follow(service, cursor, 9) for service, cursor in zip((one, two, other), cursors, strict=True)]
        # One order for both, and each opt-out once although both read what the other wrote.
        assert pages[0] == pages[1]
        assert [sorted(found) for found, _ in pages] == [list(range(9))] * 3
        for service in (one, two):
            await service.context.shared.drain(10)
            await service.context.shared.merge()
            assert (await service.tail(pages[0][1]))["entries"] == []

    run(work())


def test_a_cursor_of_another_instance_is_a_gap(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        one, two = machines(tmp_path, 2, cloud, cloud.queue())
        await one.start()
        await two.start()
        cursor = (await one.tail())["cursor"]
        page = await two.tail(cursor)
        assert (page["gap"], page["entries"]) == (True, [])
        assert (await two.tail(page["cursor"]))["gap"] is False
        await one.replicate(1, "t")
        assert (await follow(two, page["cursor"], 1))[0] == [1]

    run(work())


def test_the_tail_goes_on_after_a_restart(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        one = await OptOut(tmp_path / "one", **members(cloud, queue, bucket)).start()
        two = await OptOut(tmp_path / "two", **members(cloud, queue, bucket)).start()
        cursor = (await one.tail())["cursor"]
        await two.replicate(1, "t1")
        await one.replicate(2, "t2")
        found, after = await follow(one, cursor, 2)
        assert sorted(found) == [1, 2]
        await one.context.shared.drain(10)
        again = await OptOut(tmp_path / "one", **members(cloud, queue, bucket)).start()
        # Every object is read again, its own of before too; the log knows them.
        await again.context.shared.merge()
        assert (await again.tail(after)) == {"cursor": after, "gap": False, "entries": []}
        await two.replicate(3, "t3")
        assert (await follow(again, after, 1))[0] == [3]

    run(work())


def test_a_new_instance_begins_with_what_no_file_has(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        one = await OptOut(tmp_path / "one", **members(cloud, queue, bucket)).start()
        await one.replicate(1, "t1")
        await one.replicate(2)
        await one.context.shared.drain(10)
        new = await OptOut(tmp_path / "new", **members(cloud, queue, bucket)).start()
        first = await new.tail()
        assert numbers(await new.tail(first["cursor"])) == [1, 2]

    run(work())


def test_objects_go_when_files_have_held_their_opt_outs_long_enough(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        clock = FixedClock(EpochMillis(1_722_506_407_999))
        one = await OptOut(tmp_path / "one", clock, **members(cloud, queue, bucket)).start()
        two = await OptOut(tmp_path / "two", clock, **members(cloud, queue, bucket)).start()
        assert one.context.shared is not None
        assert two.context.shared is not None
        cursor = (await two.tail())["cursor"]
        await one.replicate(1, "t1")
        await one.replicate(2)
        await follow(two, cursor, 2)
        await one.context.shared.drain(10)
        await two.produce()
        assert await one.context.files.refresh()
        await one.context.shared.settle()
        clock.advance(SETTLE_MS - 1)
        await one.context.shared.settle()
        assert objects(one) != []
        begin = (await one.tail())["cursor"]
        clock.advance(1)
        await one.context.shared.settle()
        assert objects(one) == []
        # Who begins now has them from files.
        assert (begin.split("-")[1], (await one.tail())["cursor"].split("-")[1]) == ("0", "2")
        # Who was on the way still gets them.
        assert numbers(await one.tail(begin)) == [1, 2]
        clock.advance(3 * HOUR_MS)
        await one.context.shared.settle()

    run(work())


def test_what_a_vanished_instance_left_is_cleared_away(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        clock = FixedClock(EpochMillis(1_722_506_407_999))
        one = await OptOut(tmp_path / "one", clock, **members(cloud, queue, bucket)).start()
        await one.replicate(1, "t1")
        await one.context.shared.drain(10)
        assert one.sharing is not None
        one.sharing.cancel()
        two = await OptOut(tmp_path / "two", clock, **members(cloud, queue, bucket)).start()
        assert two.context.shared is not None
        await two.produce()
        await two.context.files.refresh()
        await two.context.shared.settle()
        clock.advance(SETTLE_MS)
        await two.context.shared.settle()
        assert len(objects(two)) == 1
        clock.advance(HOUR_MS)
        await two.context.shared.settle()
        assert objects(two) == []

    run(work())


def test_an_opt_out_that_no_claim_names_settles_when_production_is_far_past_it(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        queue, bucket = cloud.queue(), cloud.bucket()
        clock = FixedClock(SystemClock().now_ms())
        one = await OptOut(tmp_path / "one", clock, **members(cloud, queue, bucket)).start()
        assert one.context.shared is not None
        await one.replicate(1, "t1")
        await one.context.shared.drain(10)
        # Somebody empties the queue.
        cloud.sqs.purge_queue(QueueUrl=queue.url)
        clock.advance((KEPT_SECONDS + 10) * 1000)
        await one.replicate(2, "t2")
        await one.context.shared.drain(10)
        assert (await one.tail())["cursor"].endswith("-0")
        for message in queue.messages:
            message.sent_timestamp = clock.now_ms()
        await one.produce()
        await one.context.files.refresh()
        await one.context.shared.settle()
        clock.advance(SETTLE_MS)
        await one.context.shared.settle()
        assert (await one.tail())["cursor"].endswith("-2")
        assert objects(one) == []

    run(work())


def test_a_bucket_that_is_away_holds_up_nobody_and_is_made_up_for(
    tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one, two = machines(tmp_path, 2, cloud, cloud.queue())
        await one.start()
        await two.start()
        assert one.context.shared is not None
        mine, theirs = (await one.tail())["cursor"], (await two.tail())["cursor"]

        def away(*_: Any) -> Any:
            raise StoreUnavailableError("the bucket is away")

        with monkeypatch.context() as patch:
            for name in ("put", "folders"):
                patch.setattr(type(one.context.bucket), name, away)
            assert (await one.replicate(1, "t")).status_code == 200
            # The own tail needs no bucket.
            assert (await follow(one, mine, 1))[0] == [1]
            assert await one.context.shared.merge() is False
            # The writer tries in its own time.
            async with asyncio.timeout(20):
                while len(one.context.shared.status()["problems"]) < 2:
                    await asyncio.sleep(0.01)
            assert one.context.shared.status()["problems"] == ["the bucket is away"] * 2
            assert one.context.shared.unsent == 1
        assert (await follow(two, theirs, 1))[0] == [1]
        assert await one.context.shared.merge() is True
        assert one.context.shared.status()["problems"] == []

    run(work())


def test_the_same_attempt_at_two_machines_is_told_and_written_once(tmp_path: Path, cloud: Cloud) -> None:
    async def work() -> None:
        # Each machine has a queue of its own on its disk.
        one, two = machines(tmp_path, 2, cloud, None)
        await one.start()
        await two.start()
        cursor = (await two.tail())["cursor"]
        await one.replicate(1, "t")
        await two.replicate(1, "t")
        await one.replicate(2, "u")
        found, _ = await follow(two, cursor, 2)
        assert sorted(found) == [1, 2]
        for _ in range(2):
            await asyncio.gather(one.produce(), two.produce())
        assert one.recorded() == [1, 2]
        assert [await service.context.queue.size() for service in (one, two)] == [0, 0]

    run(work())


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


@pytest.mark.slow
def test_killed_at_every_step_of_production_everything_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, limit, total = [0], [0], 0
    for name in ("pwrite", "fsync", "replace", "link", "unlink"):
        original = getattr(os, name)

        def counted(*values: Any, _original: Any = original, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                steps[0] += 1
                if steps[0] == limit[0]:
                    raise Killed
            return _original(*values, **named)

        monkeypatch.setattr(os, name, counted)

    async def instance(folder: Path, name: str) -> OptOut:
        shared = {"optout_s3_bucket": f"file://{folder / 'bucket'}", "optout_shared_tail": "on"}
        service = await OptOut(folder / name, **shared).start()
        assert service.sharing is not None
        service.sharing.cancel()
        return service

    async def attempt(folder: Path, at: int) -> list[int]:
        """What is in files after a job that was killed at a step, and two jobs of each machine after it."""
        # What was killed is nobody's news.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        one, two = await instance(folder, "one"), await instance(folder, "two")
        for n in range(3):
            # The first is at both machines.
            await one.replicate(n, f"t{n}")
        await two.replicate(0, "t0")
        steps[0], limit[0] = 0, at
        await one.produce()
        nonlocal total
        total, limit[0] = steps[0], 0
        again = await instance(folder, "one")
        for _ in range(2):
            await two.produce()
            await again.produce()
            for service in (two, again):
                service.clock.advance(int(VOID_SECONDS * 1000) + 1)
        assert [await service.context.queue.size() for service in (again, two)] == [0, 0]
        return again.recorded()

    assert run(attempt(tmp_path / "whole", 0)) == [0, 1, 2]
    points = total
    for at in range(1, points + 1):
        assert run(attempt(tmp_path / str(at), at)) == [0, 1, 2], at
    print(f"killed at {points} points")
    assert points > 10


def objects_of(folder: Path, writer: str) -> tuple[TailObjects, FolderBucket]:
    bucket = FolderBucket(folder)
    return TailObjects(bucket, "optout/", writer), bucket


def record(number: int) -> Record:
    message = OptOutMessage(number.to_bytes(32, "big"), bytes(33), trace_id=f"t{number}")
    return Record(number, 1000 + number, message.encode())


ONE, TWO = "0" * 15 + "1", "0" * 15 + "2"


def given(objects: TailObjects) -> list[int]:
    return [record.number for found in objects.fresh() for record in found.records]


def test_foreign_names_and_damage_are_passed_over(tmp_path: Path) -> None:
    writer, bucket = objects_of(tmp_path, ONE)
    reader, _ = objects_of(tmp_path, TWO)
    for path in ("tail/readme", "tail/notes/00000000000000000001", f"tail/{ONE}/x.json", f"tail/{ONE}/1"):
        bucket.put(f"optout/{path}", b"something")
    path = writer.write([record(1), record(2)])
    assert path == f"optout/tail/{ONE}/00000000000000000001"
    bucket.put(path, bucket.read(path)[:-1])
    writer.write([record(3)])
    assert given(reader) == [1, 3]
    assert given(reader) == []
    assert given(writer) == []
    # Numbers go on although all objects are gone.
    for path in bucket.list(f"optout/tail/{ONE}/"):
        bucket.delete(path)
    assert given(reader) == []
    writer.write([record(4)])
    assert given(reader) == [4]


def test_links_among_the_folders_of_writers_stop_nobody(tmp_path: Path) -> None:
    writer, _ = objects_of(tmp_path, ONE)
    reader, bucket = objects_of(tmp_path, TWO)
    writer.write([record(1)])
    tail = tmp_path / "optout/tail"
    (tail / "loop").symlink_to("loop")
    (tail / "nowhere").symlink_to("not there")
    (tail / "a folder").symlink_to(ONE)
    (tail / "a file").write_bytes(b"")
    assert bucket.folders("optout/tail/") == [ONE, "a folder"]
    assert bucket.folders("optout/none/") == []
    assert given(reader) == [1]


def test_an_object_that_cannot_be_read_is_waited_for_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _ = objects_of(tmp_path, ONE)
    reader, _ = objects_of(tmp_path, TWO)
    bad = writer.write([record(1)])
    writer.write([record(2)])
    read = FolderBucket.read

    def broken(me: FolderBucket, path: str, limit: int = 0) -> bytes:
        if path == bad:
            raise StoreUnavailableError("not now")
        return read(me, path)

    monkeypatch.setattr(FolderBucket, "read", broken)
    assert given(reader) == []
    monkeypatch.setattr(FolderBucket, "read", read)
    assert given(reader) == [1, 2]
    late, _ = objects_of(tmp_path, "f" * 16)
    monkeypatch.setattr(FolderBucket, "read", broken)
    for _ in range(MOST_FAILURES - 1):
        assert given(late) == []
    assert given(late) == [2]


def test_old_names_of_folders_do_not_touch_tail_and_claims(tmp_path: Path) -> None:
    inner = FolderBucket(tmp_path)
    bucket = RenamingBucket(inner)
    TailObjects(bucket, "optout/", ONE).write([record(1)])
    assert given(TailObjects(bucket, "optout/", TWO)) == [1]
    assert ClaimBook(bucket, "optout/", FixedClock(0)).claim("optout/delta/x", [])
    assert sorted(inner.list("optout/")) == [
        "optout/claims/00000000000000000001",
        f"optout/tail/{ONE}/00000000000000000001",
    ]


def queued(number: int, trace: str | None = None) -> QueuedMessage:
    message = OptOutMessage(number.to_bytes(32, "big"), bytes(33), trace_id=trace)
    return QueuedMessage(0, EpochMillis(1000), message, delivery=f"d{number}")


@pytest.mark.parametrize("where", ["a folder", "S3"])
def test_one_claim_a_number(tmp_path: Path, cloud: Cloud, where: str) -> None:
    folder = f"file://{tmp_path / 'bucket'}"
    place = members(cloud, None, cloud.bucket()) if where == "S3" else {"optout_s3_bucket": folder}
    bucket = OptOut(tmp_path, **place).context.bucket
    clock = FixedClock(EpochMillis(1_000_000_000))
    one, two = ClaimBook(bucket, "optout/", clock), ClaimBook(bucket, "optout/", clock)
    assert one.claim("optout/delta/1", [queued(1), queued(2, "t")])
    # The other has not read that yet: it is told to look again.
    assert not two.claim("optout/delta/2", [queued(3)])
    review = two.review([queued(1), queued(3), queued(2, "t"), queued(3)])
    assert [len(part) for part in (review.pending, review.fresh, review.repeated, review.finished)] == [2, 1, 1, 0]
    assert two.claim("optout/delta/2", review.fresh)
    two.seen({"optout/delta/1"})
    assert len(two.review([queued(1), queued(2, "t")]).finished) == 2
    one.refresh()
    assert len(one.review([queued(3)]).pending) == 1
    one.record("optout/dropped/3", [queued(4)], dropped=True)
    two.refresh()
    assert len(two.review([queued(4)]).finished) == 1


def test_old_claims_go_and_numbers_go_on(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path)
    clock = FixedClock(EpochMillis(1_000_000_000))
    book = ClaimBook(bucket, "", clock)
    for n in range(3):
        assert book.claim(f"delta/{n}", [queued(n)])
    bucket.put("claims/readme", b"x")
    bucket.put("claims/00000000000000000004", b"no claim")
    clock.advance((KEPT_SECONDS + 1) * 1000)
    book.refresh()
    assert len(book.review([queued(0)]).fresh) == 1
    assert book.claim("delta/5", [queued(5)])
    book.clean()
    assert [path for path in bucket.list("claims/") if path.endswith(("1", "2", "3"))] == []
    other = ClaimBook(bucket, "", clock)
    other.refresh()
    assert other.claim("delta/6", [queued(6)])
    assert bucket.list("claims/")[-2:] == ["claims/00000000000000000006", "claims/readme"]
