"""Calls to Core: bounded in size and time, nobody redirected, nothing of the address in an error."""

import threading
from collections.abc import Iterator

import httpx
import pytest
from fake_core import FakeCore

from uid2.corelink.client import CoreClient, CoreUnreachableError
from uid2.corelink.clock import issued_at, skew_of, told_time
from uid2.protocol.ids import EpochMillis
from uid2.service.clock import FixedClock
from uid2.service.messages import Request, Response

NOW = EpochMillis(1_750_000_000_000)


class HastyClock(FixedClock):
    """Half a minute passes between any two looks at it."""

    def monotonic(self) -> float:
        self.advance(31_000)
        return super().monotonic()


@pytest.fixture
def client(core: FakeCore) -> Iterator[CoreClient]:
    client = CoreClient(core.clock, httpx.Timeout(1.0, connect=0.3))
    yield client
    client.close()


def test_an_answer_up_to_the_limit_is_taken(core: FakeCore, client: CoreClient) -> None:
    core.replies["/x"] = lambda _: Response(418, b"a" * 1000)
    answer = client.get(f"{core.origin}/x", {}, limit=1000)
    assert (answer.status, len(answer.body), abs(answer.skew_ms or 0) <= 500) == (418, 1000, True)
    with pytest.raises(CoreUnreachableError, match="too long"):
        client.get(f"{core.origin}/x", {}, limit=999)


def test_an_answer_that_drips_is_cut(core: FakeCore) -> None:
    core.replies["/x"] = lambda _: Response(200, b"a" * 1_000_000)
    client = CoreClient(HastyClock(NOW), httpx.Timeout(1.0))
    with pytest.raises(CoreUnreachableError, match="too slow"):
        client.get(f"{core.origin}/x", {})
    client.close()


def test_redirects_are_answers(core: FakeCore, client: CoreClient) -> None:
    core.replies["/x"] = lambda _: Response(302, headers=(("location", f"{core.origin}/y"),))
    assert client.get(f"{core.origin}/x", {}).status == 302
    assert [call.path for call in core.calls] == ["/x"]


def test_the_proxies_of_the_environment_do_not_count(
    core: FakeCore, client: CoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    core.replies["/x"] = lambda _: Response(200)
    fresh = CoreClient(core.clock, httpx.Timeout(1.0))
    assert fresh.get(f"{core.origin}/x", {}).status == 200
    fresh.close()


@pytest.mark.parametrize("value", ["line\nbreak", "é"])
def test_what_no_header_holds_is_no_crash(core: FakeCore, client: CoreClient, value: str) -> None:
    with pytest.raises(CoreUnreachableError) as caught:
        client.get(f"{core.origin}/x?signature=hidden", {"X-Test": value})
    assert "hidden" not in caught.value.diagnosis()
    assert value not in caught.value.diagnosis()


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Sun, 15 Jun 2025 15:06:40 GMT", -500),
        ("Sun, 15 Jun 2025 15:05:40 GMT", 59_500),
        ("Sun, 15 Jun 2025 16:06:40 +0100", -500),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Sun, 99 Jun 2025 15:06:40 GMT", None),
    ],
)
def test_skew_is_measured_against_the_date(date: str | None, skew: int | None) -> None:
    assert skew_of(date, NOW, NOW) == skew


def test_the_middle_of_the_exchange_counts() -> None:
    date = "Sun, 15 Jun 2025 15:06:40 GMT"
    assert told_time(date) == NOW
    assert skew_of(date, NOW, EpochMillis(NOW + 3000)) == 1000


@pytest.mark.parametrize(
    "jwt", [None, "", "a", "a.?.c", "a.e30.c", "a.bnVsbA.c", "a.eyJpYXQiOiJ4In0.c", "a.eyJpYXQiOjEuNX0.c"]
)
def test_a_jwt_that_tells_no_time(jwt: str | None) -> None:
    assert issued_at(jwt) is None


def test_close_ends_a_call_that_nobody_answers(core: FakeCore) -> None:
    asked, release = threading.Event(), threading.Event()

    def hang(_: Request) -> None:
        asked.set()
        release.wait(60)

    core.replies["/x"] = hang
    client = CoreClient(core.clock, httpx.Timeout(60.0))
    problems: list[CoreUnreachableError] = []

    def call() -> None:
        with pytest.raises(CoreUnreachableError) as caught:
            client.get(f"{core.origin}/x", {})
        problems.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    assert asked.wait(30)
    client.close()
    thread.join(30)
    release.set()
    assert (thread.is_alive(), len(problems)) == (False, 1)
