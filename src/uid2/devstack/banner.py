"""What `uid2 up` prints once everything is ready; the only place that shows the demo client's key and secret."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from uid2.devstack.state import DEFAULT_STATE, Running, State

EXAMPLE_EMAIL: Final = "someone@example.com"


def json_banner(state: State, running: Running) -> str:
    """One line."""
    return json.dumps(
        {
            "operator": next(iter(running.operators), None),
            "operators": running.operators,
            "core": running.core,
            "optout": running.optout,
            "client_key": state.credentials.client_key,
            "client_secret": state.credentials.client_secret,
            "site_id": state.credentials.site_id,
        }
        | ({} if running.operators else {"operator_key": state.programs.operators[0]})
    )


def text_banner(state: State, running: Running, ops_url: str | None, verdicts: Sequence[str], core_log: Path) -> str:
    """`verdicts`: what Core decided about each operator. Without an operator the key for one from elsewhere."""
    rows = [("operator" if n == 0 else "", url) for n, url in enumerate(running.operators)]
    if ops_url is not None:
        rows.append(("status", f"{ops_url}/ops/status   metrics: {ops_url}/metrics"))
    else:
        rows.append(("operator key", state.programs.operators[0]))
    rows += [
        ("core", f"{running.core}   log: {core_log}"),
        ("optout", running.optout),
        ("client key", state.credentials.client_key),
        ("client secret", state.credentials.client_secret),
        ("site", f"{state.credentials.site_id}   roles: every role a client can have"),
        ("state", str(state.directory)),
    ]
    rows += [("attested" if n == 0 else "", verdict) for n, verdict in enumerate(verdicts)]
    lines = "\n".join(f"  {name:<14} {value}".rstrip() for name, value in rows)
    scope = state.credentials.identity_scope.upper()
    if ops_url is None:
        return (
            f"\n{scope} Core and OptOut are ready; no operator runs.\n\n{lines}\n\n"
            f"Start one that has the operator key:\n\n"
            f"  export core_api_token={state.programs.operators[0]} optout_api_token={state.programs.operators[0]}\n"
            f"  scripts/azure/run.sh\n\nCtrl-C stops it.\n"
        )
    return (
        f"\n{scope} operator is ready.\n\n{lines}\n\nMake a first token:\n\n"
        f"  {first_command(state.directory)}\n\nCtrl-C stops it.\n"
    )


def first_command(directory: Path) -> str:
    """The command a reader can paste: `uid2` when PATH finds this installation, else the path to it."""
    words = [_program(), "token", EXAMPLE_EMAIL]
    if directory != DEFAULT_STATE.resolve():
        words += ["--state", str(directory)]
    return shlex.join(words)


def _program() -> str:
    ours = Path(sys.executable).parent / "uid2"
    found = shutil.which("uid2")
    if found and Path(found).resolve() == ours.resolve():
        return "uid2"
    relative = os.path.relpath(ours)
    return str(ours) if relative.startswith("..") else relative
