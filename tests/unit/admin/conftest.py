import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from admin_stage import Ticking, new_universe, populate

from uid2.admin.transaction import Universe


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def universe(tmp_path: Path, clock: Ticking) -> Universe:
    """A populated universe in tmp_path."""
    made = new_universe(tmp_path, clock)
    made.run(populate)
    return made
