import asyncio

import httpx
import pytest

from uid2.core.verifiers.fetching import LARGEST, HttpFetch

URL = "https://pccs.example.com/sgx/certification/v4/tcb?fmspc=00A067110000"


def fetch(answer: httpx.Response | Exception) -> HttpFetch:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpFetch(transport=httpx.MockTransport(respond))


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_is_handed_on(status: int) -> None:
    found = asyncio.run(fetch(httpx.Response(status, headers={"TCB-Info-Issuer-Chain": "x"}, content=b"{}"))(URL))
    assert (found.status, found.body) == (status, b"{}")
    assert found.headers["tcb-info-issuer-chain"] == "x"


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ReadTimeout("late")])
def test_no_answer(error: Exception) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(fetch(error)(URL))


def test_an_answer_without_end() -> None:
    with pytest.raises(ConnectionError, match="more than"):
        asyncio.run(fetch(httpx.Response(200, content=bytes(LARGEST + 1)))(URL))


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConnectionError, match=r"Error|URL|Protocol"):
        asyncio.run(HttpFetch()("http://[broken"))


def test_production_fetches_over_https_alone() -> None:
    with pytest.raises(ConnectionError, match="https only"):
        asyncio.run(HttpFetch(https_only=True)("http://pccs.example.com/rootcacrl"))
