import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage import Stage, sample_snapshot

from uid2.stores.snapshot import OperatorSnapshot


@pytest.fixture(scope="session")
def snapshot() -> OperatorSnapshot:
    return sample_snapshot()


@pytest.fixture
def make_stage(snapshot: OperatorSnapshot) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(**settings: Any) -> Stage:
        made.append(Stage(snapshot, settings))
        return made[-1]

    yield make
    for stage in made:
        stage.close()
