"""`uid2 admin optout` against a running stack, with operators that follow."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from running_stack import Stack, await_refusal, command, refuses, running_stack
from uid2.client.operator import OperatorClient
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import iter_entries


def admin(stack: Stack, *words: str, status: int = 0) -> Any:
    """The JSON that a command prints; the options name the state folder alone, as people start."""
    full = command("admin", "--json", "optout", "--state", str(stack.state), *words)
    done = subprocess.run(full, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def entries(stack: Stack) -> list[bytes]:
    """The identity hash of every ordinary entry in the deltas, as often as it is there."""
    files = (stack.state / f"optout-{stack.scope}" / "bucket").rglob("optout-delta-*.dat")
    return [e.identity_hash for f in files for e in iter_entries(f.read_bytes(), Environment.TEST) if not e.special]


def produce(stack: Stack) -> None:
    """Runs jobs until nothing waits."""
    config = json.loads((stack.state / f"optout-{stack.scope}" / "config.json").read_text())
    headers = {"Authorization": f"Bearer {config['optout_internal_api_token']}"}
    ops = f"http://127.0.0.1:{9081 + stack.offset}/ops/status"
    while httpx.get(ops, timeout=30).json()["queue"]["waiting"]:
        httpx.post(f"http://127.0.0.1:{8082 + stack.offset}/optout/deltaproduce", headers=headers, timeout=30)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("administration"), operators=2) as stack:
        yield stack


@pytest.fixture
def clients(stack: Stack) -> Iterator[list[OperatorClient]]:
    with contextlib.ExitStack() as closing:
        urls = stack.banner["operators"]
        yield [closing.enter_context(OperatorClient(url, stack.key, stack.secret)) for url in urls]


def test_operators_learn_of_opt_outs_while_production_is_halted(stack: Stack, clients: list[OperatorClient]) -> None:
    """In the reference nobody learns of an opt-out before a person has removed the override."""
    people = [f"halted{n}@example.com" for n in range(6)]
    admin(stack, "breaker", "set", "--reason", "a test", "--yes")
    for n, email in enumerate(people):
        clients[n % 2].logout({"email": email})
        assert refuses(clients[n % 2], email)
        await_refusal(clients[1 - n % 2], email)
    shown = admin(stack, "breaker", "show")
    assert (shown["production"], shown["halted because"], shown["opt-outs that wait"]) == ("halted", "a test", 6)
    assert entries(stack) == []
    admin(stack, "breaker", "reset", "--yes")
    produce(stack)
    assert len(entries(stack)) == len(set(entries(stack))) == 6
    assert admin(stack, "breaker", "show")["production"] == "goes on"
    assert all(refuses(client, email) for client in clients for email in people)


def test_a_list_is_imported_found_and_honoured(stack: Stack, clients: list[OperatorClient], tmp_path: Path) -> None:
    people = [f"listed{n}@example.com" for n in range(40)]
    listed = tmp_path / "list.csv"
    listed.write_text("email\n" + "\n".join(people) + "\n")
    before = len(entries(stack))
    assert not refuses(clients[0], people[0])
    assert admin(stack, "import", str(listed), "--dry-run") == {"good": 40, "bad": 0, "sent": 0}
    assert not refuses(clients[0], people[0])
    assert admin(stack, "import", str(listed)) == {"sent": 40, "repeated": 0, "refused": 0}
    for email in (people[0], people[-1]):
        await_refusal(clients[0], email)
    assert admin(stack, "import", str(listed)) == {"sent": 0, "repeated": 40, "refused": 0}
    # What the import computed is what the operator computes on a logout.
    clients[0].logout({"email": people[0]})
    produce(stack)
    assert (len(entries(stack)) - before, len(set(entries(stack))) - before) == (41, 40)
    found = admin(stack, "lookup", people[0])["found"]
    # The partition of the day may hold it as well by now.
    assert sum("optout-delta-" in row["file"] for row in found) == 2
    assert len({row["advertising ID"] for row in found}) == 1
    assert admin(stack, "lookup", "somebody.else@example.com")["found"] == []
    assert admin(stack, "verify")["faults"] == 0
    listed.write_text("email\nnobody\n")
    admin(stack, "import", str(listed), status=2)
    assert people[0] not in (stack.state / f"optout-{stack.scope}" / "optout.log").read_text()
