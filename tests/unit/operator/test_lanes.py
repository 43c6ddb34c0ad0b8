"""The bulk lane: order, bounds, and what runs at once."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable

import pytest

from uid2.operator.lanes import (
    BULK_NICENESS,
    INLINE_BYTES,
    INLINE_SEALED_BYTES,
    MOST_WAITING,
    SWITCH_SECONDS,
    Lanes,
    favour_the_loop,
)
from uid2.protocol.errors import BusyError

LARGE = INLINE_BYTES + 1


def run(scenario: Callable[[Lanes], object], lanes: Lanes) -> object:
    try:
        return asyncio.run(scenario(lanes))  # type: ignore[arg-type]
    finally:
        lanes.close()


def test_small_work_runs_on_the_loop_and_large_work_in_a_thread() -> None:
    async def scenario(lanes: Lanes) -> tuple[str, str]:
        def name() -> str:
            return threading.current_thread().name

        return await lanes.run(INLINE_BYTES, name), await lanes.run(LARGE, name)

    inline, threaded = run(scenario, Lanes(1, 1 << 20, 10))  # type: ignore[misc]
    assert inline == threading.current_thread().name
    assert threaded.startswith("bulk")


def test_errors_of_the_work_reach_the_caller() -> None:
    async def scenario(lanes: Lanes) -> None:
        def fail() -> None:
            raise ValueError("wrong")

        for size in (1, LARGE):
            with pytest.raises(ValueError, match="wrong"):
                await lanes.run(size, fail)

    run(scenario, Lanes(1, 1 << 20, 10))


def test_work_is_done_in_order_and_beyond_the_bytes_it_is_refused() -> None:
    gate = threading.Event()
    done: list[int] = []

    async def scenario(lanes: Lanes) -> None:
        def work(number: int) -> Callable[[], None]:
            def do() -> None:
                gate.wait(10)
                done.append(number)

            return do

        tasks = [asyncio.create_task(lanes.run(LARGE, work(number))) for number in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await lanes.run(LARGE, work(9))
        gate.set()
        await asyncio.gather(*tasks)
        await lanes.run(LARGE, work(4))

    run(scenario, Lanes(1, 4 * LARGE, 10))
    assert done == [0, 1, 2, 3, 4]


def test_too_many_waiting_are_refused() -> None:
    gate = threading.Event()

    async def scenario(lanes: Lanes) -> None:
        tasks = [asyncio.create_task(lanes.run(LARGE, gate.wait)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await lanes.run(LARGE, gate.wait)
        gate.set()
        await asyncio.gather(*tasks)

    run(scenario, Lanes(1, 1 << 30, 10))


def test_who_waits_too_long_is_refused_and_leaves_room() -> None:
    gate = threading.Event()

    async def scenario(lanes: Lanes) -> None:
        first = asyncio.create_task(lanes.run(LARGE, gate.wait))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await lanes.run(LARGE, gate.wait)
        gate.set()
        assert await first is True
        assert await lanes.run(LARGE, lambda: "room") == "room"

    run(scenario, Lanes(1, 1 << 20, 0.01))


def test_what_is_left_of_a_request_waits_for_a_thread_and_is_never_refused() -> None:
    gate = threading.Event()

    async def scenario(lanes: Lanes) -> tuple[str, str]:
        def name() -> str:
            return threading.current_thread().name

        first = asyncio.create_task(lanes.run(LARGE, lambda: gate.wait(10)))
        await asyncio.sleep(0)
        last = asyncio.create_task(lanes.finish(INLINE_SEALED_BYTES + 1, name))
        await asyncio.sleep(0.05)
        assert not last.done()
        gate.set()
        await first
        return await last, await lanes.finish(INLINE_SEALED_BYTES, name)

    threaded, inline = run(scenario, Lanes(1, LARGE, 0.01))  # type: ignore[misc]
    assert threaded.startswith("bulk")
    assert inline == threading.current_thread().name


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a niceness for each thread")
def test_bulk_threads_stand_back_and_the_loop_does_not() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()

    async def scenario(lanes: Lanes) -> int:
        return await lanes.run(LARGE, niceness)

    assert run(scenario, Lanes(1, 1 << 20, 10)) == max(before, BULK_NICENESS)
    assert niceness() == before


def test_the_interpreter_is_handed_over_soon() -> None:
    before = sys.getswitchinterval()
    try:
        favour_the_loop()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    finally:
        sys.setswitchinterval(before)
