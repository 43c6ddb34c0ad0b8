"""Intake, production, the list of files and the live tail."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import INTERNAL, KEY, NOW, READER, OptOut, parameters

VECTORS = Path(__file__).parents[2] / "vectors/optout"
EXAMPLE = json.loads((VECTORS / "manifest.json").read_text())["replicate_example"]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_the_documented_opt_out_becomes_the_documented_bytes(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        service.clock.set(EXAMPLE["sent_timestamp_ms"])
        answer = await service.http.get(
            "/optout/replicate", params=EXAMPLE["query"], headers={"Authorization": f"bearer {KEY}"}
        )
        assert (answer.status_code, answer.text) == (200, str(EXAMPLE["sent_timestamp_ms"] // 1000))
        result = (await service.produce())["result"]
        assert (result["deltas_produced"], result["entries_processed"], result["status"]) == (1, 1, "success")

    run(work())
    (file,) = (tmp_path / "bucket").rglob("*.dat")
    data = file.read_bytes()
    assert data[72:144].hex() == EXAMPLE["entry_hex"]
    assert (len(data), data[:64], data[144:176]) == (216, bytes(64), b"\xff" * 32)
    assert file.parent.name == "2024-08-01"


GOOD = parameters(7)
BAD: list[tuple[str, dict[str, Any]]] = [
    ("no hash", {"params": {"advertising_id": GOOD["advertising_id"]}}),
    ("no id", {"params": {"identity_hash": GOOD["identity_hash"]}}),
    ("twice", {"params": [*GOOD.items(), ("identity_hash", GOOD["identity_hash"])]}),
    ("no base64", {"params": GOOD | {"identity_hash": "*" * 44}}),
    ("short hash", {"params": GOOD | {"identity_hash": "AAAA"}}),
    ("long hash", {"params": GOOD | {"identity_hash": base64.b64encode(bytes(33)).decode()}}),
    ("short id", {"params": GOOD | {"advertising_id": base64.b64encode(b"\1" * 31).decode()}}),
    ("long id", {"params": GOOD | {"advertising_id": base64.b64encode(b"\1" * 34).decode()}}),
    ("null hash", {"params": GOOD | {"identity_hash": base64.b64encode(bytes(32)).decode()}}),
    ("ones hash", {"params": GOOD | {"identity_hash": base64.b64encode(b"\xff" * 32).decode()}}),
    ("a plus that was not escaped", {"params": None, "query": b"identity_hash=+" + b"A" * 43 + b"&advertising_id=A"}),
    ("no JSON", {"params": GOOD, "content": b"{"}),
    ("JSON list", {"params": GOOD, "content": b"[]"}),
    ("e-mail of the wrong type", {"params": GOOD, "content": b'{"email": 5}'}),
]


@pytest.mark.parametrize("request_", [request for _, request in BAD], ids=[name for name, _ in BAD])
def test_bad_requests_leave_nothing(tmp_path: Path, request_: dict[str, Any]) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        members = dict(request_)
        query = members.pop("query", None)
        url = "/optout/replicate" if query is None else f"/optout/replicate?{query.decode()}"
        if members.get("params") is None:
            members.pop("params")
        answer = await service.http.post(url, headers={"Authorization": f"Bearer {KEY}"}, **members)
        assert answer.status_code == 400
        await service.produce()
        assert service.deltas() == {}

    run(work())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/optout/replicate", {}),
        ("/optout/replicate", {"Authorization": "Bearer nobody"}),
        ("/optout/replicate", {"Authorization": f"Basic {KEY}"}),
        ("/optout/replicate", {"Authorization": f"Bearer {READER}"}),
        ("/optout/refresh", {"Authorization": "Bearer nobody"}),
        ("/optout/tail", {"Authorization": "Bearer nobody"}),
        ("/optout/tail", {}),
    ],
)
def test_who_may_not(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        answer = await service.http.get(path, params=GOOD, headers=headers)
        assert (answer.status_code, answer.text) == (401, "Unauthorized")

    run(work())


def test_a_jwt_is_demanded_where_it_is_enforced(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, enforceJwt=True).start()
        headers = {"Authorization": f"Bearer {KEY}"}
        assert (await service.http.get("/optout/refresh", headers=headers)).status_code == 401
        assert (await service.http.get("/optout/tail", headers=headers)).status_code == 401
        # Taking an opt-out needs the key alone.
        assert (await service.replicate(1)).status_code == 200

    run(work())


@pytest.mark.parametrize("again", ["at once", "in another instance", "after a restart", "after production"])
def test_one_id_gives_one_entry(tmp_path: Path, again: str) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        other = await OptOut(tmp_path).start() if again == "in another instance" else service
        assert (await service.replicate(1, "one")).status_code == 200
        if again == "after a restart":
            other = await OptOut(tmp_path).start()
        if again == "after production":
            await service.produce()
        assert (await other.replicate(1, "one")).status_code == 200
        assert (await other.replicate(1, "two")).status_code == 200
        await other.produce()
        assert other.recorded() == [1, 1]

    run(work())


def test_instances_neither_lose_nor_double(tmp_path: Path) -> None:
    async def work() -> None:
        instances = [await OptOut(tmp_path).start() for _ in range(3)]
        for first in range(0, 90, 30):
            await asyncio.gather(*(instances[n % 3].replicate(n, f"t{n}") for n in range(first, first + 30)))
            await asyncio.gather(*(instance.produce() for instance in instances))
        await instances[0].produce()
        assert instances[0].recorded() == list(range(90))

    run(work())


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


@pytest.mark.parametrize("what", ["take", "produce"])
def test_killed_at_every_step_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, record_property: Any
) -> None:
    steps = [0]
    limit = [0]
    for name in ("pwrite", "fsync", "replace", "ftruncate", "unlink"):
        original = getattr(os, name)

        def counted(*values: Any, _original: Any = original, **named: Any) -> Any:
            steps[0] += 1
            if steps[0] == limit[0]:
                raise Killed
            return _original(*values, **named)

        monkeypatch.setattr(os, name, counted)

    async def attempt(folder: Path, at: int) -> list[int]:
        """Numbers that were acknowledged."""
        # What was killed is nobody's news: told of later, it would end up among the log lines of another test.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        limit[0] = 0
        service = await OptOut(folder).start()
        taken = []
        if what == "produce":
            for n in range(3):
                assert (await service.replicate(n, f"t{n}")).status_code == 200
                taken.append(n)
        steps[0], limit[0] = 0, at
        try:
            if what == "take":
                for n in range(3):
                    if (await service.unless_killed(service.replicate(n, f"t{n}"))).status_code == 200:
                        taken.append(n)
            else:
                await service.produce()
        except (Killed, BaseExceptionGroup):
            pass
        finally:
            limit[0] = 0
        return taken

    async def after(folder: Path) -> list[int]:
        service = await OptOut(folder).start()
        await service.replicate(99, "later")
        await service.produce()
        return service.recorded()

    run(attempt(tmp_path / "whole", 0))
    total = steps[0]
    assert total > 3
    for at in range(1, total + 1):
        folder = tmp_path / str(at)
        taken = run(attempt(folder, at))
        recorded = run(after(folder))
        assert set(taken) | {99} <= set(recorded), at
        assert len(recorded) == len(set(recorded)), (at, recorded)
        assert set(recorded) <= {0, 1, 2, 99}
    print(f"{what}: killed at {total} points")


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        await service.replicate(1, "a")
        write = os.pwrite

        def full(descriptor: int, data: Any, offset: int) -> int:
            write(descriptor, bytes(data)[: len(data) // 2], offset)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        assert (await service.replicate(2, "b")).status_code == 500
        monkeypatch.setattr(os, "pwrite", write)
        assert (await service.replicate(3, "c")).status_code == 200
        await service.produce()
        assert service.recorded() == [1, 3]

    run(work())


def test_the_list_of_files_and_its_links(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        headers = {"Authorization": f"Bearer {KEY}"}
        for n in (1, 2):
            await service.replicate(n)
            await service.produce()
            service.clock.advance(400_000)
        await service.context.files.refresh()
        answer = await service.http.get("/optout/refresh", headers=headers)
        listed = answer.json()["optout_logs"]
        assert [log["type"] for log in listed] == ["delta", "delta"]
        assert {log["to"] - log["from"] for log in listed} == {300}
        assert answer.json()["version"] == max(log["from"] for log in listed)
        for log in listed:
            file = await service.http.get(log["location"])
            assert (file.status_code, len(file.content)) == (200, 216)
            assert (await service.http.get(log["location"] + "0")).status_code in (401, 403)

    run(work())


def test_the_tail_is_in_order_and_tells_a_gap(tmp_path: Path) -> None:
    async def work() -> None:
        service, other = await OptOut(tmp_path).start(), await OptOut(tmp_path).start()
        begin = await service.tail()
        assert (begin["gap"], begin["entries"]) == (False, [])
        for n in range(5):
            await (service if n % 2 else other).replicate(n, f"t{n}")
        entries: list[Any] = []
        page = begin
        while len(entries) < 5:
            page = await service.tail(page["cursor"], wait=10)
            assert page["entries"], "the other instance's opt-outs did not come"
            entries += page["entries"]
        numbers = [int.from_bytes(base64.b64decode(e["identity_hash"])[:4], "big") for e in entries]
        assert numbers == list(range(5))
        assert {e["timestamp"] for e in entries} == {NOW // 1000}
        assert (await service.tail(page["cursor"]))["entries"] == []
        for strange in ("", "x", "deadbeef00000000-3", page["cursor"] + "9"):
            found = await service.tail(strange or None)
            assert found["gap"] is bool(strange)

    run(work())


def test_who_waits_is_told_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        cursor = (await service.tail())["cursor"]
        waiting = asyncio.create_task(service.tail(cursor, wait=30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await service.replicate(5, "five")
        page = await asyncio.wait_for(waiting, 10)
        assert len(page["entries"]) == 1

    run(work())


def test_the_control_port(tmp_path: Path) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path).start()
        headers = {"Authorization": f"Bearer {INTERNAL}"}
        path = "/optout/deltaproduce"
        assert (await service.control.post(path)).status_code == 401
        idle = await service.control.get(f"{path}/status", headers=headers)
        assert idle.json() == {"status": "idle", "message": "no job running on this pod"}
        started = await service.control.post(path, headers=headers)
        assert (started.status_code, started.json()) == (202, {"status": "accepted", "message": "job started"})
        await service.context.producer.wait()
        done: httpx.Response = await service.control.get(f"{path}/status", headers=headers)
        assert (done.json()["state"], done.json()["result"]["status"]) == ("completed", "skipped")

    run(work())
