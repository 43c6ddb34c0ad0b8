from pathlib import Path

from uid2.cli.error_reference import error_page

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"


def test_the_page_is_the_one_the_code_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == error_page()


def test_every_error_has_a_meaning() -> None:
    rows = [line for line in error_page().splitlines() if line.startswith("| `")]

    assert len(rows) > 10
    assert all(row.split("|")[4].strip() for row in rows)
