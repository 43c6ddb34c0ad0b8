"""What every unit test gets."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A shared machine may stop a test for a while; no test is about time.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A service that a test starts sets up the root logger; the next test finds it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
