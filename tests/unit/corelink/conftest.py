import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from core_side import NOW, clients
from fake_core import FakeCore

from uid2.service.clock import FixedClock


@pytest.fixture
def core() -> Iterator[FakeCore]:
    core = FakeCore(FixedClock(NOW))
    core.start()
    yield core
    core.close()


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while clients:
        clients.pop().close()
