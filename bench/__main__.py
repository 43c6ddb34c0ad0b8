"""Runs every measurement, prints a report and writes bench/results/latest.json."""

import argparse
import json
from pathlib import Path

from bench import bulk, http_operator, memory, optouts, rotation, spread, tables
from bench.result import Result

RESULTS = Path("bench/results/latest.json")


def main() -> None:
    """`--quick` takes smaller tables and fewer repeats."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    results: list[Result] = [
        result
        for part in (bulk, tables, optouts, rotation, http_operator, memory, spread)
        for result in part.measure(quick)
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([result.members() for result in results], indent=1) + "\n")
    for result in results:
        verdict = {None: "", True: "met", False: "NOT MET"}[result.met]
        target = "" if result.target is None else f"target {result.target:g}"
        print(f"{result.name:<76} {result.value:>14,.4g} {result.unit:<12} {target:<16} {verdict}")


main()
