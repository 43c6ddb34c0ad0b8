"""What the whole run says at its end."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Counts that tests recorded as `points`: how many places a program was killed at."""
    points = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == "points"
    ]
    if points:
        terminalreporter.write_line(f"administration: killed at {sum(points)} points of {len(points)} operations")
