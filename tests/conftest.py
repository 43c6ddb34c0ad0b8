"""What the whole run says at its end."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests recorded: at how many `points` a program was killed, and the books of the opt-outs under faults."""
    recorded = [
        entry
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for entry in report.user_properties
    ]
    points = [value for name, value in recorded if name == "points"]
    for name, value in recorded:
        if name == "optouts_under_faults":
            terminalreporter.write_line(f"opt-outs under faults: {value}")
    if points:
        terminalreporter.write_line(f"administration: killed at {sum(points)} points of {len(points)} operations")
