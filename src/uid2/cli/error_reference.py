"""The page docs/errors.md, made from the errors themselves so that it cannot fall behind them."""

import importlib
import inspect
from typing import Final

from uid2.protocol import errors
from uid2.protocol.errors import Uid2Error

MODULES: Final = ("uid2.protocol.errors", "uid2.client.refusal", "uid2.corelink.exchange")
EXITS: Final = (
    ("0", "normal end"),
    ("1", "anything else, the stops for expired salts, stale stores and 12 hours without Core included"),
    ("2", "bad configuration or arguments"),
    ("3", "attestation refused"),
    ("4", "a dependency cannot be reached at start"),
)


def error_page() -> str:
    """The Markdown of docs/errors.md."""
    from uid2.service.exits import exit_code_of

    tree = (errors.__doc__ or "").split("\n\n")[1].rstrip()
    rows = "".join(
        f"| `{kind.__name__}` | `{kind.code}` | {int(exit_code_of(kind.__new__(kind)))} | {_first_line(kind)} |\n"
        for kind in sorted(_kinds(), key=lambda kind: kind.__name__)
    )
    exits = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXITS)
    return (
        "# Errors\n\nMade from the code by `uid2.cli.error_reference.error_page()`; a test keeps both equal.\n\n"
        "Every error of the product has a code, a message that says what is wrong and where, and, where one is known, "
        "the next step. No message holds an identity, hash, token, key or secret.\n\n"
        f"```\n{tree}\n```\n\n| Error | Code | Exit code of a command | Meaning |\n|---|---|---|---|\n{rows}\n"
        f"## Exit codes\n\n| Exit code | Meaning |\n|---|---|\n{exits}\n"
        "The statuses and messages the operator answers over HTTP are described per endpoint in `openapi.json`.\n"
    )


def _kinds() -> set[type[Uid2Error]]:
    found: set[type[Uid2Error]] = set()
    for name in MODULES:
        for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if issubclass(kind, Uid2Error):
                found.add(kind)
    return found


def _first_line(kind: type[Uid2Error]) -> str:
    """The error's line in the tree, else the first line of its own docstring."""
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if words and words[0] == kind.__name__ and kind is not Uid2Error:
            return " ".join(words[1:])
    return str(kind.__dict__.get("__doc__") or "").strip().split("\n")[0]
