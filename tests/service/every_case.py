"""All cases, from the modules of `cases/`."""

from importlib import import_module
from pathlib import Path

from case import Case

CASES: list[Case] = [
    case
    for path in sorted((Path(__file__).parent / "cases").glob("section_*.py"))
    for case in import_module(f"cases.{path.stem}").CASES
]
