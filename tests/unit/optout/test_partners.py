"""Partner forwarding: calls, repetitions, the state in the bucket, one sender at a time."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_stage import OptOut, parameters

from uid2.optout.assembly import forwarding_of
from uid2.optout.bucket import FolderBucket
from uid2.optout.listing import listed_files
from uid2.optout.partner_calls import NotSentError, PartnerCalls
from uid2.optout.partner_sender import PAUSE_SECONDS, PartnerSender
from uid2.optout.partner_state import PartnerStates, SendState
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry, OptOutFileKind, OptOutFileName
from uid2.protocol.partners import Partner

ENTRY = OptOutEntry(b"\x05" * 32, b"\xfb\xff" * 16, EpochSeconds(1_722_506_407))
ENTRY_ID = "+//7//v/+//7//v/+//7//v/+//7//v/+//7//v/+/8="


def partner(**members: Any) -> Partner:
    given: dict[str, Any] = {
        "name": "Partner",
        "url": "https://partner.test/optout",
        "method": "GET",
        "query_params": ("id=${ADVERTISING_ID}", "at=${OPTOUT_EPOCH}", "fixed=a=b&c"),
        "additional_headers": ("Authorization: Bearer secret",),
        "retry_count": 2,
        "retry_backoff_ms": 250,
    }
    return Partner(**(given | members))


class Double:
    """Answers with what is next in `answers`, then 200; keeps the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"Location": "https://elsewhere.test/"})

    @property
    def ids(self) -> list[str]:
        return [parse_qs(request.url.query.decode())["id"][0] for request in self.requests]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def call(double: Double, **members: Any) -> list[float]:
    """The pauses that were made."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(double)) as client:
            await PartnerCalls(partner(**members), client, pause).send(ENTRY)

    run(work())
    return pauses


def test_what_a_partner_is_told() -> None:
    double = Double()
    call(double)
    (request,) = double.requests
    assert request.method == "GET"
    assert request.url.raw_path == (
        b"/optout?id=%2B%2F%2F7%2F%2Fv%2F%2B%2F%2F7%2F%2Fv%2F%2B%2F%2F7%2F%2Fv%2F%2B%2F%2F7%2F%2Fv%2F%2B%2F%2F7"
        b"%2F%2Fv%2F%2B%2F8%3D&at=1722506407&fixed=a%3Db%26c"
    )
    assert double.ids == [ENTRY_ID]
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.content == b""


def test_an_address_with_a_query_of_its_own() -> None:
    double = Double()
    call(double, url="https://partner.test/o?a=1", query_params=("id=${ADVERTISING_ID}",), method="POST")
    assert double.requests[0].url.query.startswith(b"a=1&id=")
    assert double.requests[0].method == "POST"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    double = Double(status, status)
    assert call(double) == [0.25, 0.25]
    assert len(double.requests) == 3


@pytest.mark.parametrize(
    ("answers", "outcome", "calls"),
    [
        ([503, 503, 503, 200], "too_many_retries", 3),
        ([404], "unexpected_status_code_404", 1),
        ([302], "unexpected_status_code_302", 1),
        ([201], "unexpected_status_code_201", 1),
        ([httpx.ConnectTimeout("late")], "unknown_error", 1),
        ([httpx.ConnectError("refused")], "unknown_error", 1),
    ],
)
def test_what_fails(answers: list[Any], outcome: str, calls: int) -> None:
    double = Double(*answers)
    with pytest.raises(NotSentError) as caught:
        call(double)
    assert caught.value.outcome == outcome
    assert len(double.requests) == calls


@pytest.mark.parametrize(
    "members",
    [
        {"url": "ftp://partner.test/"},
        {"url": "partner"},
        {"query_params": ("id",)},
        {"query_params": ("=x",)},
        {"query_params": ("x=",)},
        {"additional_headers": ("Authorization",)},
    ],
    ids=str,
)
def test_a_partner_that_cannot_be_called_is_named(members: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="partner Partner"):
        call(Double(), **members)


class Sending:
    """A service with three deltas of two opt-outs each, and one sender."""

    def __init__(self, folder: Path, double: Double) -> None:
        self.folder = folder
        self.double = double
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(double))

    async def start(self) -> "Sending":
        self.service = await OptOut(self.folder).start()
        for n in range(3):
            await self.delta(2 * n, 2 * n + 1)
        return self

    async def delta(self, *numbers: int) -> None:
        for n in numbers:
            await self.service.replicate(n)
        await self.service.produce()
        self.service.clock.advance(1000)

    def sender(self, **members: Any) -> PartnerSender:
        context = self.service.context
        one = partner(**members)
        return PartnerSender(
            PartnerCalls(one, self.client, _no_pause),
            one,
            context.bucket,
            PartnerStates(context.bucket, "optout/", "/data/consumer/delta/"),
            context.files,
            Environment.TEST,
            context.clock,
            context.metrics,
        )

    def metric(self, name: str) -> list[str]:
        return [line for line in self.service.context.metrics.render().decode().splitlines() if line.startswith(name)]


async def _no_pause(_: float) -> None:
    return None


def sending(folder: Path, double: Double, work: Callable[[Sending], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        stage = await Sending(folder, double).start()
        await work(stage)
        await stage.client.aclose()

    run(whole())


def told(*numbers: int) -> list[str]:
    return [parameters(n)["advertising_id"] for n in numbers]


def test_each_delta_is_told_once_and_a_restart_goes_on(tmp_path: Path) -> None:
    double = Double()

    async def work(stage: Sending) -> None:
        sender = stage.sender()
        await sender.step()
        assert double.ids == told(*range(6))
        await sender.step()
        assert len(double.ids) == 6
        await stage.delta(9)
        await stage.sender().step()
        assert double.ids == told(*range(6), 9)
        (count,) = stage.metric("uid2_optout_entries_sent_total")
        assert 'remote_partner="partner"' in count
        assert 'status="success"' in count
        assert count.endswith(" 7.0")
        assert stage.metric("uid2_optout_pending_deltas_to_send")[0].endswith(" 0.0")
        names = (tmp_path / "bucket/optout/sender-state/partner_processed.txt").read_text().split("\n")
        assert len(names) == 4
        assert all(name.startswith("/data/consumer/delta/optout-delta-000_") for name in names)

    sending(tmp_path, double, work)


def test_a_failure_pauses_and_goes_on_from_the_same_opt_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    double = Double(200, 200, 200, 404, 200)

    async def work(stage: Sending) -> None:
        sender = stage.sender()
        with caplog.at_level(logging.ERROR):
            assert await sender.step() == PAUSE_SECONDS
        assert sender.waiting == 2
        assert sender.problem is not None
        assert await sender.step() == 1.0
        assert double.ids == told(0, 1, 2, 3, 3, 4, 5)
        assert sender.problem is None

    sending(tmp_path, double, work)
    (record,) = [record for record in caplog.records if "partner" in record.getMessage()]
    assert "unexpected_status_code_404" in record.getMessage()
    assert not any(text in caplog.text for text in told(*range(6)))


def test_special_entries_are_told_to_nobody(tmp_path: Path) -> None:
    """The reference sends them."""
    double = Double()

    async def work(stage: Sending) -> None:
        await stage.sender().step()
        assert "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" not in double.ids
        assert "//////////////////////////////////////////8=" not in double.ids

    sending(tmp_path, double, work)


def test_the_last_delta_does_not_wait_for_another_one(tmp_path: Path) -> None:
    """In the reference a delta goes out when a later one arrives, however long that takes."""
    double = Double()

    async def work(stage: Sending) -> None:
        await stage.sender().step()
        assert double.ids[-1:] == told(5)

    sending(tmp_path, double, work)


def test_a_damaged_delta_holds_up_no_other_one(tmp_path: Path) -> None:
    double = Double()

    async def work(stage: Sending) -> None:
        first, *_ = sorted((tmp_path / "bucket").rglob("*.dat"))
        whole = first.read_bytes()
        first.write_bytes(whole[:-1])
        sender = stage.sender()
        await sender.step()
        await sender.step()
        assert double.ids == told(2, 3, 4, 5)
        first.write_bytes(whole)
        await stage.sender().step()
        assert double.ids == told(2, 3, 4, 5, 0, 1)

    sending(tmp_path, double, work)


def test_the_state_of_the_reference_is_taken_over(tmp_path: Path) -> None:
    double = Double()

    async def work(stage: Sending) -> None:
        paths = [file.path for file in stage.service.context.files.files or ()]
        states = tmp_path / "bucket/optout/sender-state"
        states.mkdir()
        (states / "partner_timestamp.txt").write_text("0")
        (states / "partner_processed.txt").write_text(
            "\n".join("/opt/uid2/optout/consumer/delta/" + path.rsplit("/", 1)[-1] for path in paths[:2])
        )
        await stage.sender().step()
        assert double.ids == told(4, 5)

    sending(tmp_path, double, work)


def test_the_time_moves_only_past_what_cannot_turn_up_any_more() -> None:
    files = listed_files(
        OptOutFileName(OptOutFileKind.DELTA, 0, EpochSeconds(at), 0).format() for at in (1000, 2000, 9000)
    )
    state = SendState().with_sent(files[1], 8000, files)
    assert state.before == 1000
    state = state.with_sent(files[0], 8000, files)
    assert state.before == 8000
    assert state.sent == frozenset()
    assert [file.created for file in state.waiting(files)] == [9000]


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    states = PartnerStates(FolderBucket(tmp_path / "bucket"), "optout/", "")
    states.write("../../evil", SendState(5))
    assert list((tmp_path / "bucket").rglob("*evil*"))
    assert not list(tmp_path.glob("*evil*"))
    assert states.read("../../evil").before == 5


def test_the_list_is_followed_and_one_process_sends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two instances of one queue folder; partners come, change and go with the version of the file."""
    file = tmp_path / "partners.json"
    double = Double()

    def write(version: int, *partners: Partner) -> None:
        endpoints = [
            {
                "name": one.name,
                "url": one.url,
                "method": one.method,
                "query_params": list(one.query_params),
                "additional_headers": list(one.additional_headers),
                "retry_count": one.retry_count,
                "retry_backoff_ms": one.retry_backoff_ms,
            }
            for one in partners
        ]
        file.write_text(json.dumps({"version": version, "generated": 1, "partner_endpoints": endpoints}))

    async def until(what: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.02)

    async def work() -> None:
        write(1, partner())
        services = [await OptOut(tmp_path, partners_config_path=str(file)).start() for _ in range(2)]
        await services[0].replicate(1)
        await services[0].produce()
        await services[1].context.files.refresh()
        tasks = []
        forwardings = []
        for service in services:
            context = service.context
            assert context.partners is not None
            await context.partners.load()
            forwarding = forwarding_of(
                service.settings,
                context.partners,
                context.bucket,
                context.files,
                context.clock,
                context.metrics,
                service.health,
                httpx.MockTransport(double),
            )
            forwardings.append(forwarding)
            tasks.append(asyncio.create_task(forwarding.run()))
        await until(lambda: double.requests)
        await asyncio.sleep(1.5)
        assert double.ids == told(1)
        assert sorted(len(forwarding.status()) for forwarding in forwardings) == [0, 1]
        write(2, partner(), partner(name="Second"), partner(name="Broken", url="nowhere"))
        for service in services:
            assert service.context.partners is not None
            await service.context.partners.load()
        await until(lambda: len(double.requests) == 2)
        # A duplicate name makes the whole new list wrong; the old one stays.
        write(3, partner(), partner(name="PARTNER"))
        assert services[0].context.partners is not None
        await services[0].context.partners.load()
        assert len(services[0].context.partners.partners) == 3
        states = services[0].health.states() | services[1].health.states()
        assert states["optout-sender-second"]
        assert not states["optout-sender-broken"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        run(work())
    assert "secret" not in caplog.text
