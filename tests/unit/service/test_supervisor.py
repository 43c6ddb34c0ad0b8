"""Supervisor and workers as real processes: kills, hangs, orphans, ordered stops."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from uid2.service.channel import Channel, ChannelError
from uid2.service.server import bind_socket
from uid2.service.shared_files import SharedFolder
from uid2.service.supervisor import Supervisor

HERE = str(Path(__file__).parent)


def environ() -> dict[str, str]:
    paths = [HERE, *[entry for entry in sys.path if entry]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Operator:
    """A supervisor with what it knows, as an operator would have it."""

    def __init__(self, count: int, program: str = "sample_worker:serve") -> None:
        self.listener = bind_socket("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.known: list[str] = []
        self.hand_over_gate = asyncio.Event()
        self.hand_over_gate.set()
        self.handing_over = asyncio.Event()
        self.supervisor = Supervisor(program, count, [self.listener], prepare=self.prepare, environ=environ())
        self.supervisor.on("logout", self.logout)

    async def prepare(self, channel: Channel) -> None:
        await channel.request("snapshot", "salts")
        known = list(self.known)
        self.handing_over.set()
        await self.hand_over_gate.wait()
        for entry in known:
            await channel.request("learn", entry)

    async def logout(self, payload: Any) -> str:
        self.known.append(payload)
        await self.supervisor.spread("learn", payload)
        return "durable"

    async def get(self, path: str = "/", method: str = "GET", body: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            return (await reader.read()).partition(b"\r\n\r\n")[2]
        finally:
            writer.close()

    async def workers(self) -> dict[int, dict[str, Any]]:
        """What the workers say, by process id; asks until each has been met."""
        found: dict[int, dict[str, Any]] = {}
        while set(self.supervisor.pids) - set(found):
            state = json.loads(await self.get())
            found[state["pid"]] = state
        return found


@contextlib.asynccontextmanager
async def operator(count: int) -> AsyncIterator[Operator]:
    running = Operator(count)
    await running.supervisor.start()
    try:
        yield running
    finally:
        await running.supervisor.stop(2)
        running.listener.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_worker_serves_and_knows_a_logout_before_it_is_answered() -> None:
    async def check() -> None:
        async with operator(2) as running:
            assert all(state["snapshot"] == ["salts"] for state in (await running.workers()).values())
            answer = json.loads(await running.get("/logout", "POST", b"one"))
            assert answer == {"answer": "durable", "known": ["one"]}
            assert [state["known"] for state in (await running.workers()).values()] == [["one"], ["one"]]
            assert await running.supervisor.collect("count") == [1, 1]
            pids = running.supervisor.pids
        assert not [pid for pid in pids if alive(pid)]

    run(check)


def test_a_killed_worker_is_replaced_under_requests_and_forgets_nothing() -> None:
    async def check() -> None:
        async with operator(2) as running:
            await running.supervisor.spread("learn", "old")
            running.known.append("old")
            failed = 0
            victim = running.supervisor.pids[0]
            os.kill(victim, signal.SIGKILL)
            for _ in range(50):
                try:
                    json.loads(await running.get())
                except (ConnectionError, ValueError):
                    failed += 1
            # Only connections that the dead worker had accepted may be lost.
            assert failed <= 2
            await until(lambda: running.supervisor.replaced == 1 and running.supervisor.ready_workers == 2)
            assert victim not in running.supervisor.pids
            assert [state["known"] for state in (await running.workers()).values()] == [["old"], ["old"]]

    run(check)


def test_a_worker_that_does_not_confirm_is_replaced() -> None:
    async def check() -> None:
        async with operator(2) as running:
            stopped = running.supervisor.pids[1]
            os.kill(stopped, signal.SIGSTOP)
            await running.logout("two")
            # When the spreading returns, nobody is left who does not know.
            assert stopped not in running.supervisor.pids or not alive(stopped)
            await until(lambda: running.supervisor.ready_workers == 2)
            assert [state["known"] for state in (await running.workers()).values()] == [["two"], ["two"]]

    run(check)


def test_what_is_spread_during_a_hand_over_is_known_before_the_worker_serves() -> None:
    async def check() -> None:
        async with operator(1) as running:
            running.handing_over.clear()
            running.hand_over_gate.clear()
            os.kill(running.supervisor.pids[0], signal.SIGKILL)
            await running.handing_over.wait()
            await running.logout("meanwhile")
            running.hand_over_gate.set()
            assert json.loads(await running.get())["known"] == ["meanwhile"]

    run(check)


def test_stopping_finishes_running_requests() -> None:
    async def check() -> None:
        async with operator(1) as running:
            talking = asyncio.create_task(running.get("/slow"))
            await asyncio.sleep(0.2)
            await running.supervisor.stop(5)
            assert await talking == b"done"
            assert running.supervisor.pids == ()

    run(check)


def test_a_worker_that_dies_at_its_start_is_tried_again_with_pauses() -> None:
    async def check() -> None:
        running = Operator(1, "sample_worker:fail")
        starting = asyncio.create_task(running.supervisor.start())
        await until(lambda: running.supervisor.replaced >= 2)
        starting.cancel()
        await running.supervisor.stop(1)
        running.listener.close()
        assert running.supervisor.pids == ()

    run(check)


SUPERVISING = """
import asyncio, json
from uid2.service.server import bind_socket
from uid2.service.supervisor import Supervisor

async def main():
    listener = bind_socket("127.0.0.1", 0)
    supervisor = Supervisor("sample_worker:serve", 2, [listener])
    await supervisor.start()
    print(json.dumps({"pids": supervisor.pids, "port": listener.getsockname()[1]}), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_dead_supervisor_takes_its_workers_along() -> None:
    async def check() -> None:
        with subprocess.Popen([sys.executable, "-c", SUPERVISING], stdout=subprocess.PIPE, env=environ()) as process:
            assert process.stdout is not None
            started = json.loads(await asyncio.to_thread(process.stdout.readline))
            process.kill()
        await until(lambda: not any(alive(pid) for pid in started["pids"]))
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", started["port"])

    run(check)


def test_the_channel_answers_refuses_and_ends() -> None:
    async def check() -> None:
        left, right = (Channel(end) for end in socket.socketpair())

        async def double(payload: Any) -> Any:
            return payload * 2

        async def break_down(_: Any) -> None:
            raise RuntimeError("canary")

        async def never(_: Any) -> None:
            await asyncio.sleep(60)

        for name, handler in (("double", double), ("break_down", break_down), ("never", never)):
            right.on(name, handler)
        await left.open()
        await right.open()
        assert await asyncio.gather(*(left.request("double", n) for n in range(50))) == [n * 2 for n in range(50)]
        assert await left.request("double", "x" * 1_000_000) == "x" * 2_000_000
        with pytest.raises(ChannelError, match="break_down failed: RuntimeError") as caught:
            await left.request("break_down")
        assert "canary" not in caught.value.message
        with pytest.raises(ChannelError, match="nothing handles"):
            await left.request("unknown")
        with pytest.raises(ChannelError, match="no answer"):
            await left.request("never", timeout=0.01)
        waiting = asyncio.create_task(left.request("never"))
        await asyncio.sleep(0.01)
        right.close()
        with pytest.raises(ChannelError, match="closed"):
            await waiting
        with pytest.raises(ChannelError, match="closed"):
            await left.request("double", 1)

    run(check)


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{]"])
def test_a_channel_out_of_step_is_closed(frame: bytes) -> None:
    async def check() -> None:
        end, other = socket.socketpair()
        with other:
            channel = Channel(end)
            await channel.open()
            other.send(frame)
            await channel.closed.wait()

    run(check)


def test_a_shared_folder_is_private_and_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    folder = SharedFolder(tmp_path)
    (folder.path / "salts").write_bytes(b"x")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    left = tmp_path / "uid2-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "salts").write_bytes(b"x")
    other = tmp_path / "uid2-other"
    other.mkdir()
    second = SharedFolder(tmp_path)
    # The living one stays, and what has no lock was not made here.
    assert (left.exists(), other.exists(), (folder.path / "salts").exists()) == (False, True, True)
    for one in (folder, second):
        one.close()
        assert not one.path.exists()


def test_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Supervisor("sample_worker:serve", 0, [])
