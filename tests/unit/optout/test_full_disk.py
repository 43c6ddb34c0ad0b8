"""A disk without space at every single write: a clear refusal, and nothing that was confirmed is lost or doubled."""

import asyncio
import errno
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import OptOut

FULL = OSError(errno.ENOSPC, "No space left on device")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


class Disk:
    """Counts writes; from the one of number `full_from` on there is no space until `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[str] = []
        self.full_from: int | None = None
        for name in ("pwrite", "fsync"):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def begin(self, full_from: int | None) -> None:
        self.writes, self.full_from = [], full_from

    def free(self) -> None:
        self.full_from = None

    def _wrapped(self, name: str, original: Any) -> Any:
        def write(*values: Any) -> Any:
            self.writes.append(name)
            if self.full_from is not None and len(self.writes) >= self.full_from:
                if name == "pwrite":
                    original(values[0], bytes(values[1])[: len(values[1]) // 2], values[2])
                raise FULL
            return original(*values)

        return write


async def attempt(disk: Disk, folder: Path, full_from: int | None) -> tuple[list[int], list[str], dict[str, Any]]:
    """Confirmed numbers, texts of refusals, the state of the job; at the end there is space again."""
    service = await OptOut(folder).start()
    disk.begin(full_from)
    confirmed, refusals = [], []
    for n in range(3):
        answer = await service.replicate(n, f"t{n}")
        if answer.status_code == 200:
            confirmed.append(n)
        else:
            assert answer.status_code == 500
            refusals.append(answer.text)
    state = await service.produce()
    disk.free()
    # The same process goes on.
    await service.produce()
    assert (await service.replicate(9, "t9")).status_code == 200
    for n in range(3):
        assert (await service.replicate(n, f"t{n}")).status_code == 200
    await service.produce()
    return confirmed, refusals, state


def test_every_write_may_find_the_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    confirmed, refusals, state = run(attempt(disk, tmp_path / "whole", None))
    assert (confirmed, refusals, state["state"]) == ([0, 1, 2], [], "completed")
    disk.begin(None)

    async def counted() -> int:
        service = await OptOut(tmp_path / "counted").start()
        disk.begin(None)
        for n in range(3):
            await service.replicate(n, f"t{n}")
        await service.produce()
        return len(disk.writes)

    total = run(counted())
    assert total > 10
    failed_jobs = 0
    for number in range(1, total + 1):
        folder = tmp_path / str(number)
        confirmed, refusals, state = run(attempt(disk, folder, number))
        assert all("not kept, send it again" in text for text in refusals)
        assert len(confirmed) + len(refusals) == 3
        if state["state"] == "failed":
            failed_jobs += 1
            assert "space" in state["error"].lower() or "cannot" in state["error"].lower(), state
        recorded = OptOut(folder).recorded()
        assert recorded == [0, 1, 2, 9], (number, confirmed, recorded)
    assert failed_jobs > 3, "no job has met the full disk"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_small_file_system_fills_up_and_is_emptied(tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine mounts nothing for us")
    try:
        ballast = small / "ballast"

        async def work() -> None:
            service = await OptOut(tmp_path / "rest", optout_queue_dir=str(small / "queue")).start()
            ballast.write_bytes(b"x" * 200_000)
            confirmed = []
            for n in range(4000):
                answer = await service.replicate(n, f"t{n}")
                if answer.status_code != 200:
                    assert answer.status_code == 500
                    break
                confirmed.append(n)
            else:
                raise AssertionError("the file system does not fill up")
            ballast.unlink()
            assert (await service.replicate(confirmed[-1] + 1, "again")).status_code == 200
            await service.produce()
            assert service.recorded() == [*confirmed, confirmed[-1] + 1]

        run(work())
    finally:
        subprocess.run(["umount", str(small)], check=True)
