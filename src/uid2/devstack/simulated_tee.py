"""The simulated TEE of a running stack: quotes over a UNIX socket, collateral over HTTP, a root made for this run.

Nothing of it outlives the process: the root and every key under it exist in memory alone (enclave chapter, 9.3).
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uid2.devstack.demo_programs import ENCLAVE
from uid2.protocol.ids import EpochSeconds
from uid2.simtee.pcs import BASE, PcsApplication
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import QuotingService
from uid2.simtee.scenario import Scenario
from uid2.simtee.serving import serving

DAY: Final = 86_400
# A stack attests for as long as the root may live.
COLLATERAL_DAYS: Final = 29


@dataclass(frozen=True, slots=True)
class SimulatedTee:
    """`socket` is what `dangerous_simulated_tee` names, `collateral_url` the base of the PCS paths."""

    socket: Path
    collateral_url: str
    root_pem: str


@contextlib.contextmanager
def simulated_tee(host: str, now: EpochSeconds) -> Iterator[SimulatedTee]:
    """Runs in threads until the block ends."""
    platform = SimulatedPlatform.create(now, Scenario(collateral_ends=COLLATERAL_DAYS * DAY))
    # A UNIX socket's path may have 107 bytes: a state folder's own path can be longer.
    with tempfile.TemporaryDirectory(prefix="uid2-tee-") as folder, serving(PcsApplication(platform), host) as url:
        quoting = QuotingService(Path(folder) / "quoting", platform, ENCLAVE)
        quoting.start()
        try:
            yield SimulatedTee(Path(folder) / "quoting", url + BASE, platform.root_pem)
        finally:
            quoting.stop()
