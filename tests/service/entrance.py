"""The three checks that every keyed endpoint begins with: length, key and role, envelope."""

from case import Case, bare, error
from stage import FULL_KEY, OPTOUT_KEY, READER_KEY

NO_BODY = error("Invalid body: Body is missing.")
TOO_LONG = b"A" * ((1 << 20) + 1)
UNAUTHORIZED = {"status": "unauthorized"}


def entrance(section: str, path: str, rows: tuple[str, str, str] = ("1", "1", "1")) -> list[Case]:
    """Too long a body, no key, a key without the role, no envelope."""
    without_role = READER_KEY if path.endswith("logout") else OPTOUT_KEY
    return [
        Case(section, rows[0], "a body beyond 1 MiB", bare("POST", path, TOO_LONG), 413, text="Request Too Long"),
        Case(section, rows[1], "no key", bare("POST", path, b"?"), 401, UNAUTHORIZED),
        Case(section, rows[1], "no role", bare("POST", path, b"?", without_role), 401, UNAUTHORIZED),
        Case(section, rows[2], "no envelope", bare("POST", path, b"", FULL_KEY), 400, NO_BODY),
    ]
