"""The operator's calls to the opt-out service, and the live tail that it follows."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from uid2.operator.context import OptOutRequest
from uid2.operator.optout_data import OptOutData
from uid2.operator.optout_service import OptOutService
from uid2.operator.optout_source import OptOutServiceFiles
from uid2.operator.optout_tail import CLOSE_SECONDS, GATHER_SECONDS, UNSUPPORTED_SECONDS, OptOutTail
from uid2.protocol.errors import DependencyError, StoreFormatError, StoreUnavailableError
from uid2.protocol.ids import Environment, EpochSeconds, FirstLevelHash, RawUid
from uid2.protocol.optout_log import OptOutEntry, encode_entry
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.stores.optout_files import OptOutFiles

HASHES = [bytes([n]) * 32 for n in range(1, 9)]
DELTA = "optout/delta/2024-08-01/optout-delta-000_2024-08-01T00.00.05Z_5f0c1d2e.dat"


class Standing:
    """An attestation that holds; `renewed` counts what a 401 led to."""

    optout_url = "http://optout.example"

    def __init__(self) -> None:
        self.renewed = 0

    def credentials(self) -> int:
        return self.renewed

    def rejected(self, credentials: int) -> bool:
        self.renewed = credentials + 1
        return True

    def optout_headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer key", "Attestation-Token": f"token {self.renewed}", "UID-Trace-Id": "call"}


class Double:
    """The opt-out service: answers by path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        queue = self.answers[request.url.path]
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


@pytest.fixture
def double() -> Double:
    return Double()


@pytest.fixture
def standing() -> Standing:
    return Standing()


@pytest.fixture
def service(double: Double, standing: Standing) -> OptOutService:
    clock = FixedClock(1_722_500_000_000)

    def sleep(seconds: float) -> None:
        clock.advance(int(seconds * 1000))

    return OptOutService(
        standing,  # type: ignore[arg-type]  # stands in for an Attestation
        clock,
        SystemEntropy(),
        "/optout/refresh",
        None,
        httpx.MockTransport(double),
        sleep,
    )


def entry(n: int) -> dict[str, Any]:
    return {
        "identity_hash": base64.b64encode(HASHES[n]).decode(),
        "advertising_id": base64.b64encode(HASHES[n]).decode(),
        "timestamp": 1_722_500_000 + n,
    }


def page(cursor: str, *numbers: int, gap: bool = False) -> dict[str, Any]:
    return {"status": "success", "body": {"cursor": cursor, "gap": gap, "entries": [entry(n) for n in numbers]}}


def file_of(*numbers: int) -> bytes:
    return b"".join(encode_entry(OptOutEntry(HASHES[n], HASHES[n], EpochSeconds(1_722_500_000 + n))) for n in numbers)


def listed(*paths: str) -> dict[str, Any]:
    logs = [{"type": "delta", "from": 0, "to": 0, "location": f"http://files/{path}?signature=x"} for path in paths]
    return {"version": 1, "generated": 1, "optout_logs": logs}


REQUEST = OptOutRequest(FirstLevelHash(HASHES[0]), RawUid(HASHES[1]), EpochSeconds(1_722_500_000), trace_id="caller")


def test_a_logout_is_one_request_with_everything(double: Double, service: OptOutService) -> None:
    double.answers["/optout/replicate"] = [httpx.Response(200, text="1722500000")]
    service.record(REQUEST)
    (asked,) = double.asked
    assert asked.method == "POST"
    assert base64.b64decode(asked.url.params["identity_hash"]) == HASHES[0]
    assert base64.b64decode(asked.url.params["advertising_id"]) == HASHES[1]
    assert asked.headers["Authorization"] == "Bearer key"
    assert asked.headers["UID-Trace-Id"].startswith("caller-")


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("x"), httpx.ConnectError("x"), httpx.Response(500)])
def test_a_logout_is_tried_again_under_its_id(double: Double, service: OptOutService, trouble: Any) -> None:
    double.answers["/optout/replicate"] = [trouble, trouble, httpx.Response(200)]
    service.record(REQUEST)
    assert len(double.asked) == 3
    assert len({asked.headers["UID-Trace-Id"] for asked in double.asked}) == 1


def test_two_logouts_have_two_ids(double: Double, service: OptOutService) -> None:
    double.answers["/optout/replicate"] = [httpx.Response(200)]
    service.record(REQUEST)
    service.record(REQUEST)
    assert len({asked.headers["UID-Trace-Id"] for asked in double.asked}) == 2


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (403, 1), (500, 9)])
def test_a_logout_that_is_not_taken_fails(double: Double, service: OptOutService, status: int, calls: int) -> None:
    double.answers["/optout/replicate"] = [httpx.Response(status)]
    with pytest.raises(DependencyError, match=str(status)) as failure:
        service.record(REQUEST)
    assert failure.value.next_step
    assert len(double.asked) == calls


def test_a_401_attests_anew(double: Double, service: OptOutService, standing: Standing) -> None:
    double.answers["/optout/refresh"] = [httpx.Response(401), listed(DELTA)]
    assert list(service.files()) == [DELTA]
    assert [asked.headers["Attestation-Token"] for asked in double.asked] == ["token 0", "token 1"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(500),
        httpx.Response(401),
        httpx.ConnectError("x"),
        {},
        [],
        {"optout_logs": 1},
    ],
)
def test_a_failed_list_is_never_an_empty_one(double: Double, service: OptOutService, answer: Any) -> None:
    double.answers["/optout/refresh"] = [answer]
    with pytest.raises(StoreUnavailableError) as failure:
        service.files()
    assert failure.value.next_step


def test_without_an_address_of_the_service(service: OptOutService, standing: Standing) -> None:
    standing.optout_url = None  # type: ignore[assignment]
    with pytest.raises(DependencyError, match="named no opt-out service"):
        service.page(None, 0)


@pytest.mark.parametrize("cut", [1, 71, 73])
def test_half_a_file_is_not_kept_and_fetched_again(
    double: Double, service: OptOutService, tmp_path: Path, cut: int
) -> None:
    files = OptOutFiles(tmp_path, source=OptOutServiceFiles(service))
    double.answers["/optout/refresh"] = [listed(DELTA)]
    double.answers["/" + DELTA] = [
        httpx.Response(200, content=file_of(1, 2)[:cut]),
        httpx.Response(200, content=file_of(1, 2)),
    ]
    with pytest.raises(StoreFormatError):
        files.find()
    assert not list(tmp_path.rglob("*.dat*"))
    assert [file.size for file in files.find()] == [144]
    assert [path.stat().st_size for path in tmp_path.rglob("*.dat")] == [144]


def test_one_connection_that_ends_does_not_end_the_refresh(
    double: Double, service: OptOutService, tmp_path: Path
) -> None:
    files = OptOutFiles(tmp_path, source=OptOutServiceFiles(service))
    cut = httpx.ReadError("cut")
    double.answers["/optout/refresh"] = [cut, listed(DELTA)]
    double.answers["/" + DELTA] = [cut, cut, cut, httpx.Response(200, content=file_of(1, 2))]
    with pytest.raises(StoreUnavailableError, match="ReadError"):
        files.find()
    assert [file.size for file in files.find()] == [144]


def test_a_file_that_was_cut_on_the_disk_is_fetched_again(
    double: Double, service: OptOutService, tmp_path: Path
) -> None:
    files = OptOutFiles(tmp_path, source=OptOutServiceFiles(service))
    double.answers["/optout/refresh"] = [listed(DELTA)]
    double.answers["/" + DELTA] = [httpx.Response(200, content=file_of(1, 2))]
    files.find()
    (kept,) = tmp_path.rglob("*.dat")
    kept.write_bytes(kept.read_bytes()[:100])
    OptOutFiles(tmp_path, source=OptOutServiceFiles(service)).find()
    assert kept.stat().st_size == 144


def data_of(service: OptOutService, folder: Path) -> OptOutData:
    files = OptOutFiles(folder, source=OptOutServiceFiles(service))
    return OptOutData(Environment.TEST, files, folder / "index")


def honoured(data: OptOutData) -> list[int]:
    return [n for n, flh in enumerate(HASHES) if data.view.timestamp_of_hash(FirstLevelHash(flh))]


def tail_of(service: OptOutService, data: OptOutData, clock: FixedClock | None = None) -> OptOutTail:
    async def take(entries: tuple[tuple[bytes, bytes, int], ...]) -> None:
        data.take_entries(entries)

    return OptOutTail(service, data.refresh, take, clock or FixedClock(), SystemEntropy())


def test_files_then_what_came_since(double: Double, service: OptOutService, tmp_path: Path) -> None:
    double.answers["/optout/refresh"] = [listed(DELTA)]
    double.answers["/" + DELTA] = [httpx.Response(200, content=file_of(1))]
    double.answers["/optout/tail"] = [page("a-1"), page("a-2", 2), page("a-3", 3), page("a-3"), page("a-4", 4)]
    data, clock = data_of(service, tmp_path), FixedClock()
    tail = tail_of(service, data, clock)
    cursor = tail.begin()
    data.load()
    data.take_entries(tail.catch_up(cursor))
    assert honoured(data) == [1, 2, 3]
    clock.advance(1000)
    assert asyncio.run(tail.step()) == 0.0
    assert honoured(data) == [1, 2, 3, 4]
    assert [asked.url.params.get("after") for asked in double.asked if asked.url.path == "/optout/tail"] == [
        None,
        "a-1",
        "a-2",
        "a-3",
        "a-3",
    ]


def test_opt_outs_in_close_succession_are_taken_together(
    double: Double, service: OptOutService, tmp_path: Path
) -> None:
    double.answers["/optout/refresh"] = [listed()]
    double.answers["/optout/tail"] = [page("a-0"), page("a-1", 1), page("a-2", 2), page("a-3", 3), page("a-5", 4, 5)]
    data, clock = data_of(service, tmp_path), FixedClock()
    tail = tail_of(service, data, clock)
    assert asyncio.run(tail.step()) == 0.0
    pauses = []
    for seconds in (1.0, CLOSE_SECONDS, CLOSE_SECONDS / 2, 1.0):
        clock.advance(int(seconds * 1000))
        pauses.append(asyncio.run(tail.step()))
    assert pauses == [0.0, 0.0, GATHER_SECONDS, GATHER_SECONDS]
    assert honoured(data) == [1, 2, 3, 4, 5]


def test_a_gap_loads_the_files_before_its_cursor_counts(double: Double, service: OptOutService, tmp_path: Path) -> None:
    double.answers["/optout/refresh"] = [listed(), *[httpx.Response(500)] * 2, listed(DELTA)]
    double.answers["/" + DELTA] = [httpx.Response(200, content=file_of(5))]
    double.answers["/optout/tail"] = [
        page("a-1"),
        page("a-1"),
        page("b-9", gap=True),
        page("b-9", gap=True),
        page("b-10", 6),
    ]
    data = data_of(service, tmp_path)
    tail = tail_of(service, data)
    cursor = tail.begin()
    data.load()
    data.take_entries(tail.catch_up(cursor))

    async def follow() -> None:
        assert await tail.step() > 0  # the files could not be listed: the gap is not closed
        assert honoured(data) == []
        assert await tail.step() == 0.0
        assert honoured(data) == [5]
        await tail.step()

    asyncio.run(follow())
    assert honoured(data) == [5, 6]
    asked = [request.url.params.get("after") for request in double.asked if request.url.path == "/optout/tail"]
    assert asked == [None, "a-1", "a-1", "a-1", "b-9"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.ReadTimeout("x"),
        {"body": {"cursor": "c", "gap": False, "entries": [{**entry(1), "identity_hash": "AAAA"}]}},
        {"body": {"cursor": "c", "gap": False, "entries": [{**entry(1), "timestamp": -1}]}},
        {"body": {}},
        [],
    ],
)
def test_a_failing_tail_is_asked_again_later(
    double: Double, service: OptOutService, tmp_path: Path, answer: Any
) -> None:
    double.answers["/optout/tail"] = [answer]
    data = data_of(service, tmp_path)
    tail = tail_of(service, data)
    pauses = [asyncio.run(tail.step()) for _ in range(3)]
    assert all(0 < pause <= 3.0 for pause in pauses)
    assert tail.status()["failures"] == 3
    assert honoured(data) == []


def test_a_service_without_tail_leaves_the_files(double: Double, service: OptOutService, tmp_path: Path) -> None:
    double.answers["/optout/tail"] = [httpx.Response(404)]
    tail = tail_of(service, data_of(service, tmp_path))
    assert tail.begin() is None
    assert asyncio.run(tail.step()) == UNSUPPORTED_SECONDS
    assert tail.status()["supported"] is False


def test_nothing_of_an_identity_is_in_an_error(double: Double, service: OptOutService) -> None:
    double.answers["/optout/replicate"] = [httpx.ConnectError(f"cannot reach {base64.b64encode(HASHES[0])!r}")]
    with pytest.raises(DependencyError) as failure:
        service.record(REQUEST)
    assert base64.b64encode(HASHES[0]).decode()[:12] not in failure.value.diagnosis()
