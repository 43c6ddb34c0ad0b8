"""A process of the service that is killed while it takes opt-outs: what it confirmed is there, once."""

import sys
import threading
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from optout_process import running_optout
from optout_stage import OptOut

CALLERS = 8
BEFORE_THE_KILL = 60


def test_an_acknowledged_opt_out_survives_sigkill(tmp_path: Path) -> None:
    """The reference answers once a distant queue has it; here the disk has it before the answer."""
    confirmed: list[int] = []
    enough, lock = threading.Event(), threading.Lock()
    with running_optout(tmp_path) as service:

        def call(first: int) -> None:
            for n in range(first, 100_000, CALLERS):
                try:
                    answer = service.replicate(n, f"trace-{n}")
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    with lock:
                        confirmed.append(n)
                        if len(confirmed) >= BEFORE_THE_KILL:
                            enough.set()

        threads = [threading.Thread(target=call, args=(first,)) for first in range(CALLERS)]
        for thread in threads:
            thread.start()
        assert enough.wait(120), service.log
        service.kill()
        for thread in threads:
            thread.join()
    assert len(confirmed) >= BEFORE_THE_KILL
    with running_optout(tmp_path) as service:
        # Callers that were left without an answer ask again under the same id.
        for n in confirmed[-3:]:
            assert service.replicate(n, f"trace-{n}").status_code == 200
        assert service.produce()["result"]["status"] == "success"
    recorded = OptOut(tmp_path).recorded()
    assert set(confirmed) <= set(recorded)
    assert len(recorded) == len(set(recorded))
