"""An opt-out that one operator takes is honoured by every other, and lasts."""

from pathlib import Path

import httpx
import pytest

from running_stack import await_refusal, refuses, running_stack
from uid2.client.operator import OperatorClient


def test_every_operator_honours_it_and_a_restart_keeps_it(tmp_path: Path) -> None:
    people = [f"person{n}@example.com" for n in range(20)]
    with running_stack(tmp_path, operators=3) as stack:
        clients = [OperatorClient(url, stack.key, stack.secret) for url in stack.banner["operators"]]
        for n, email in enumerate(people):
            taker = clients[n % 3]
            assert not refuses(taker, email)
            taker.logout({"email": email})
            assert refuses(taker, email), "the operator that took it honours it before it answers"
            for other in clients:
                await_refusal(other, email)
        status = httpx.get(f"{stack.ops_url}/ops/status").json()["optouts"]
        assert status["tail"]["supported"] is True
        assert status["problem"] is None
        raw_uid = clients[1].map_v3({"email": [people[0], "other@example.com"]}).email
        assert [row.u is None for row in raw_uid] == [True, False]
    with running_stack(tmp_path, operators=2) as stack:
        for url in stack.banner["operators"]:
            client = OperatorClient(url, stack.key, stack.secret)
            assert all(refuses(client, email) for email in people)


@pytest.mark.parametrize("known", [True, False])
def test_the_optout_status_endpoint_knows_it(tmp_path: Path, known: bool) -> None:
    with running_stack(tmp_path, operators=2) as stack:
        first, second = (OperatorClient(url, stack.key, stack.secret) for url in stack.banner["operators"])
        raw_uid = first.map_v3({"email": ["person@example.com"]}).email[0].u
        assert raw_uid is not None
        if known:
            first.logout({"email": "person@example.com"})
            await_refusal(second, "person@example.com")
        assert bool(second.optout_status([raw_uid]).opted_out) is known
