import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from running_stack import Stack, running_stack


@pytest.fixture(scope="session")
def uid2_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("uid2")) as stack:
        yield stack


@pytest.fixture(scope="session")
def euid_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("euid"), scope="euid") as stack:
        yield stack


@pytest.fixture(params=["uid2", "euid"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """Both scopes, each a stack that runs for the whole session."""
    return request.getfixturevalue(f"{request.param}_stack")
