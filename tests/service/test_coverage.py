"""Every row of the outcome and error tables has a case, and every case a row."""

from collections import Counter

from every_case import CASES
from rows import ROWS


def test_every_row_has_a_case() -> None:
    covered = {(case.section, case.row) for case in CASES}
    missing = [f"{row.section} {row.row} ({row.condition})" for row in ROWS if (row.section, row.row) not in covered]
    assert not missing


def test_every_case_names_a_row() -> None:
    known = {(row.section, row.row) for row in ROWS}
    assert not [case.name for case in CASES if (case.section, case.row) not in known]


def test_rows_and_names_are_unique() -> None:
    for things in ([(row.section, row.row) for row in ROWS], [case.name for case in CASES]):
        assert not [thing for thing, number in Counter(things).items() if number > 1]
