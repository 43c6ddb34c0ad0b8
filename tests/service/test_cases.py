"""Every case against the whole operator."""

from collections.abc import Callable

import pytest
from case import Case, judge
from every_case import CASES
from stage import Stage


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, make_stage: Callable[..., Stage]) -> None:
    judge(case, make_stage(**case.settings))
