"""Every test that docs/compatibility.md names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATH = re.compile(r"`((?:unit|e2e)/[\w/]+\.py)?(?:::(test_\w+))?`")


def test_the_tests_that_the_documentation_names_exist() -> None:
    text = (ROOT / "docs/compatibility.md").read_text()
    table = text[text.index("What must never happen to an opt-out") : text.index("## Transport")]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "/" in line and "`" in line]
    assert len(rows) >= 9
    for row in rows:
        file = ""
        for path, name in PATH.findall(row.split("|")[2]):
            file = path or file
            source = (ROOT / "tests" / file).read_text()
            assert not name or f"def {name}(" in source, f"{file} has no {name}"
        assert file, row
