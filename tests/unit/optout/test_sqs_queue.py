"""SQS as the queue: intake, production, repetitions, failures."""

import asyncio
import base64
import json
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cloud_stage import BAD, LOST, REFUSED, Cloud, Queue, machines, members
from optout_stage import KEY, NOW, OptOut, parameters

from uid2.optout.claims import VOID_SECONDS
from uid2.optout.main import serve
from uid2.optout.sqs_client import SqsAddress, SqsClient, region_of
from uid2.protocol.errors import ConfigurationError, DependencyError, StoreUnavailableError
from uid2.protocol.optout_log import encode_entry, end_entry, start_entry
from uid2.service.clock import FixedClock, SystemClock


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.stop()


@pytest.fixture
def queue(cloud: Cloud) -> Iterator[Queue]:
    yield cloud.queue()
    cloud.faults.clear()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def real_clock() -> FixedClock:
    """Stands still at the time of the queue's service."""
    return FixedClock(SystemClock().now_ms())


def body_of(n: int, **more: Any) -> dict[str, Any]:
    return parameters(n) | {"uid_trace_id": None, "client_ip": None, "email": None, "phone": None} | more


def test_the_message_is_as_documented(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        person = {"email": "Some.One@example.com", "phone": "+447700900123", "client_ip": "192.0.2.7"}
        assert (await service.replicate(1, "trace-1", content=json.dumps(person))).text == str(NOW // 1000)
        assert (await service.replicate(2)).status_code == 200

    run(work())
    person = {"email": "Some.One@example.com", "phone": "+447700900123", "client_ip": "192.0.2.7"}
    assert queue.bodies() == [body_of(1, uid_trace_id="trace-1", **person), body_of(2)]
    assert list(queue.bodies()[0]) == ["identity_hash", "advertising_id", "uid_trace_id", "client_ip", "email", "phone"]
    assert [message.message_attributes for message in queue.messages] == [{}, {}]


def test_person_and_address_stay_out_of_folders(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        person = {"email": "some.one@example.com", "phone": "+447700900123", "client_ip": "192.0.2.7"}
        await service.replicate(1, "t", content=json.dumps(person))
        await service.context.shared.drain(10)
        await service.produce()

    run(work())
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and "stores" not in file.parts]
    data = b"".join(file.read_bytes() for file in kept)
    assert any("tail" in file.parts for file in kept)
    for text in (b"some.one", b"447700900123", b"192.0.2.7"):
        assert text not in data


def test_a_queue_that_is_away_is_a_500_and_keeps_nothing(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        cursor = (await service.tail())["cursor"]
        cloud.faults["SendMessage"] = [BAD, BAD]
        answer = await service.replicate(1, "t")
        assert (answer.status_code, "send it again" in answer.text) == (500, True)
        assert queue.bodies() == []
        assert (await service.replicate(1, "t")).status_code == 200
        page = await service.tail(cursor, wait=10)
        assert len(page["entries"]) == 1
        elsewhere = members(cloud, queue) | {"optout_sqs_queue_url": f"{queue.url}-absent"}
        other = await OptOut(tmp_path / "other", **elsewhere).start()
        assert (await other.replicate(2)).status_code == 500

    run(work())
    assert len(queue.bodies()) == 1


def test_a_refused_connection_is_an_error_of_the_queue(cloud: Cloud, queue: Queue) -> None:
    client = SqsClient(SqsAddress(queue.url, "http://127.0.0.1:9", "us-east-1"))
    with pytest.raises(DependencyError, match="EndpointConnectionError"):
        client.send("{}", "x")


def test_a_full_queue_is_refused(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, optout_sqs_max_queue_size=2, **members(cloud, queue)).start()
        assert [(await service.replicate(n)).status_code for n in range(2)] == [200, 200]
        # Those that a reader holds count as well.
        with service.context.queue.reader() as reader:
            assert reader is not None
            assert len(reader.receive()) == 2
        assert (await service.replicate(2)).status_code == 500
        assert await service.context.queue.size() == 2
        # What cannot be read refuses nobody.
        cloud.faults["GetQueueAttributes"] = [BAD, BAD]
        assert (await service.replicate(3)).status_code == 200

    run(work())
    assert len(queue.bodies()) == 3


def test_the_delta_holds_the_times_of_the_queue(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        clock = real_clock()
        bucket = cloud.bucket()
        settings = members(cloud, queue, bucket) | {"optout_sqs_delta_window_seconds": 300}
        service = await OptOut(tmp_path, clock, **settings).start()
        for n in range(25):
            assert (await service.replicate(n, f"t{n}")).status_code == 200
        for place, message in enumerate(queue.messages):
            message.sent_timestamp = clock.now_ms() - 400_000 + 100 * place
        sent = [message.sent_timestamp // 1000 for message in queue.messages]
        result = (await service.produce())["result"]
        assert (result["deltas_produced"], result["entries_processed"]) == (1, 25)
        assert (result["stop_reason"], queue.messages) == ("QUEUE_EMPTY", [])
        (path,) = service.context.bucket.list("optout/delta/")
        expected = [start_entry(sent[0])]
        for n, timestamp in enumerate(sent):
            given = parameters(n)
            hashed, advertising = (base64.b64decode(given[name]) for name in ("identity_hash", "advertising_id"))
            expected.append(type(expected[0])(hashed, advertising, timestamp))
        expected.append(end_entry(sent[0] + 300))
        assert service.context.bucket.read(path) == b"".join(encode_entry(entry) for entry in expected)
        # Others' listings hold files in the folders of files only; ours are beside them.
        listed = [item["Key"].split("/")[1] for item in cloud.s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert set(listed) == {"delta", "claims", "tail"}

    run(work())


def test_young_messages_wait(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        clock = real_clock()
        window = {"optout_sqs_delta_window_seconds": 300}
        service = await OptOut(tmp_path, clock, **members(cloud, queue), **window).start()
        for n in range(3):
            await service.replicate(n)
        queue.messages[0].sent_timestamp = clock.now_ms() - 301_000
        for message in queue.messages[1:]:
            message.sent_timestamp = clock.now_ms() - 299_000
        assert (await service.produce())["result"]["entries_processed"] == 1
        assert service.recorded() == [0]
        queue.show_all()
        assert (await service.produce())["result"]["stop_reason"] == "MESSAGES_TOO_RECENT"
        clock.advance(2000)
        queue.show_all()
        await service.produce()
        assert (service.recorded(), queue.messages) == ([0, 1, 2], [])

    run(work())


def test_what_one_producer_holds_another_does_not_see(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        one, two = [OptOut(tmp_path / name, **members(cloud, queue)) for name in ("one", "two")]
        await one.start()
        await one.replicate(1)
        with one.context.queue.reader() as a, two.context.queue.reader() as b:
            assert a is not None
            assert b is not None
            (held,) = a.receive().messages
            assert (len(b.receive()), b.in_flight()) == (0, 1)
            queue.show_all()
            (again,) = b.receive().messages
            assert (again.delivery, again.mark) == (held.delivery, held.mark)
            assert again.receipt != held.receipt
            b.delete([again])
            assert queue.messages == []

    run(work())


@pytest.mark.parametrize("beside", [False, True], ids=["in the bucket", "in the bucket of dropped requests"])
def test_what_is_no_opt_out_is_put_aside(tmp_path: Path, cloud: Cloud, queue: Queue, beside: bool) -> None:
    async def work() -> None:
        more = {"optout_s3_bucket_dropped_requests": f"file://{tmp_path / 'beside'}"} if beside else {}
        service = await OptOut(tmp_path, **members(cloud, queue), **more).start()
        bad = [
            "no json",
            "[]",
            json.dumps({"identity_hash": parameters(1)["identity_hash"]}),
            json.dumps(body_of(1, advertising_id="*")),
            json.dumps(body_of(1, identity_hash="AAAA")),
        ]
        for body in bad:
            queue.put(body)
        queue.put(json.dumps(body_of(5)))
        names = [message.id for message in queue.messages]
        await service.produce()
        assert (service.recorded(), queue.messages) == ([5], [])
        (file,) = ((tmp_path / "beside") if beside else (tmp_path / "bucket")).glob("malformed/*.json")
        document = json.loads(file.read_bytes())
        assert [part["messageId"] for part in document] == names[:5]
        assert [part["body"] for part in document] == bad
        assert all(part["attributes"]["SentTimestamp"].isdigit() for part in document)
        assert file.read_text().startswith("[\n")

    run(work())


def test_malformed_messages_stay_when_they_cannot_be_put_aside(
    tmp_path: Path, cloud: Cloud, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        queue.put("no json")
        monkeypatch.setattr(type(service.context.bucket), "put", away)
        assert (await service.produce())["state"] == "failed"

    run(work())
    assert len(queue.messages) == 1


def away(*_: Any) -> None:
    raise StoreUnavailableError("the bucket is away")


@pytest.mark.parametrize(
    ("faults", "left", "calls"),
    [
        ([REFUSED], 0, 2),
        ([BAD, BAD], 0, 3),
        ([REFUSED, REFUSED], 1, 2),
        ([BAD] * 4, 1, 4),
        ([LOST, BAD, BAD, BAD], 0, 4),
    ],
    ids=["an entry fails", "the call fails", "twice", "the call twice", "deleted, and the answer lost"],
)
def test_deletes_are_repeated_and_their_failure_doubles_nothing(
    tmp_path: Path, cloud: Cloud, queue: Queue, faults: list[str], left: int, calls: int
) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        await service.replicate(1)
        cloud.faults["DeleteMessageBatch"] = list(faults)
        cloud.calls.clear()
        assert (await service.produce())["result"]["entries_processed"] == 1
        assert (len(queue.messages), cloud.calls.count("DeleteMessageBatch")) == (left, calls)
        cloud.faults.clear()
        queue.show_all()
        result = (await service.produce())["result"]
        assert (result["entries_processed"], result["status"]) == (0, "skipped")
        assert (service.recorded(), queue.messages) == ([1], [])

    run(work())


def test_many_deletes_go_in_tens(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        await asyncio.gather(*(service.replicate(n) for n in range(25)))
        cloud.faults["DeleteMessageBatch"] = [REFUSED]
        cloud.calls.clear()
        await service.produce()
        # Three calls, and one for the ten that failed.
        assert (cloud.calls.count("DeleteMessageBatch"), queue.messages) == (4, [])
        assert service.recorded() == list(range(25))

    run(work())


def test_a_receive_that_fails_is_an_empty_queue(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        await service.replicate(1)
        cloud.faults["ReceiveMessage"] = [BAD, BAD]
        assert (await service.produce())["result"]["stop_reason"] == "QUEUE_EMPTY"
        await service.produce()
        assert service.recorded() == [1]

    run(work())


def test_one_id_gives_one_message_where_it_is_known(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        # At once, and later.
        answers = await asyncio.gather(*(service.replicate(1, "one") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(queue.messages) == 1
        await service.context.shared.drain(10)
        assert (await service.replicate(1, "one")).status_code == 200
        assert len(queue.messages) == 1
        # Another opt-out under the same id, and another id, are others.
        await service.replicate(2, "one")
        await service.replicate(1, "two")
        assert len(queue.messages) == 3

    run(work())


@pytest.mark.parametrize("how", ["two instances", "a lost answer"])
def test_one_id_gives_one_entry_however_often_it_is_queued(
    tmp_path: Path, cloud: Cloud, queue: Queue, how: str
) -> None:
    async def work() -> None:
        one, two = machines(tmp_path, 2, cloud, queue, optout_shared_tail="off")
        await one.start()
        await two.start()
        if how == "a lost answer":
            cloud.faults["SendMessage"] = [LOST]
            assert (await one.replicate(1, "one")).status_code == 200
        else:
            await one.replicate(1, "one")
            await two.replicate(1, "one")
        await one.replicate(2, "other")
        assert len(queue.messages) == 3
        await one.produce()
        assert (one.recorded(), queue.messages) == ([1, 2], [])
        # Long after, too.
        await two.replicate(1, "one") if how == "a lost answer" else queue.put(
            json.dumps(body_of(1, uid_trace_id="one"))
        )
        await two.produce()
        assert (two.recorded(), queue.messages) == ([1, 2], [])

    run(work())


def test_two_producers_at_once_neither_lose_nor_double(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        services = list(machines(tmp_path, 2, cloud, queue, optout_shared_tail="off", optout_max_messages_per_file=10))
        for service in services:
            await service.start()
        for n in range(60):
            # Every third one reaches both.
            await services[n % 2].replicate(n, f"t{n}")
            if n % 3 == 0:
                await services[(n + 1) % 2].replicate(n, f"t{n}")
        assert len(queue.messages) == 80
        for _ in range(4):
            states = await asyncio.gather(*(service.produce() for service in services))
            assert [state["state"] for state in states] == ["completed", "completed"]
            # Some are given again although they are held or in files.
            queue.show_all()
        assert (services[0].recorded(), queue.messages) == (list(range(60)), [])

    run(work())


def test_a_job_that_ends_before_its_file_is_made_up_for(
    tmp_path: Path, cloud: Cloud, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one, two = machines(tmp_path, 2, cloud, queue)
        await one.start()
        await two.start()
        await one.replicate(1, "t")
        with monkeypatch.context() as patch:
            put = type(one.context.bucket).put
            patch.setattr(
                type(one.context.bucket),
                "put",
                lambda me, path, data: (away if "delta" in path else put)(me, path, data),
            )
            assert (await one.produce())["state"] == "failed"
        queue.show_all()
        # The file may still come.
        assert (await two.produce())["result"]["entries_processed"] == 0
        assert len(queue.messages) == 1
        two.clock.advance(int(VOID_SECONDS * 1000) + 1)
        queue.show_all()
        await two.produce()
        assert (two.recorded(), queue.messages) == ([1], [])
        queue.put(json.dumps(body_of(1, uid_trace_id="t")))
        await one.produce()
        assert (one.recorded(), queue.messages) == ([1], [])

    run(work())


def test_a_tripped_breaker_leaves_everything_in_the_queue(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        rules = tmp_path / "rules.json"
        rules.write_text(
            json.dumps(
                {
                    "traffic_calc_evaluation_window_seconds": 86_400,
                    "traffic_calc_baseline_traffic": 4,
                    "traffic_calc_threshold_multiplier": 1,
                    "traffic_calc_allowlist_ranges": [],
                }
            )
        )
        settings = members(cloud, queue) | {"traffic_calc_config_path": str(rules)}
        service = await OptOut(tmp_path, real_clock(), **settings).start()
        for n in range(4):
            await service.replicate(n)
        with service.context.queue.reader() as other:
            assert other is not None
            # Those that another producer holds count.
            assert len(other.receive()) == 4
            await service.replicate(4)
            assert (await service.produce())["result"]["stop_reason"] == "CIRCUIT_BREAKER_TRIGGERED"
        assert (service.deltas(), len(queue.messages)) == ({}, 5)
        assert service.context.bucket.list("optout/claims/") == []

    run(work())


def test_denied_opt_outs_are_dropped_and_told_to_nobody(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        clock = real_clock()
        rules = tmp_path / "deny.json"
        seconds = clock.now_ms() // 1000
        rules.write_text(
            json.dumps({"denylist_requests": [{"range": [seconds - 100, seconds + 100], "IPs": ["192.0.2.9"]}]})
        )
        settings = members(cloud, queue) | {
            "traffic_filter_config_path": str(rules),
            "optout_s3_bucket_dropped_requests": f"file://{tmp_path / 'dropped'}",
        }
        service = await OptOut(tmp_path, clock, **settings).start()
        service.context.producer.read_rules()
        cursor = (await service.tail())["cursor"]
        await service.replicate(1, "t1", content=json.dumps({"client_ip": "192.0.2.9"}))
        await service.replicate(2, "t2", content=json.dumps({"client_ip": "192.0.2.8"}))
        page = await service.tail(cursor, wait=10)
        assert [entry["identity_hash"] for entry in page["entries"]] == [parameters(2)["identity_hash"]]
        result = (await service.produce())["result"]
        assert (result["entries_processed"], result["dropped_requests_processed"]) == (1, 1)
        (file,) = (tmp_path / "dropped").rglob("*.json")
        assert json.loads(file.read_bytes()) == [body_of(1, uid_trace_id="t1", client_ip="192.0.2.9")]
        assert (service.recorded(), queue.messages) == ([2], [])

    run(work())


def test_a_fifo_queue_knows_the_attempt(tmp_path: Path, cloud: Cloud) -> None:
    queue = cloud.queue(".fifo", FifoQueue="true")

    async def work() -> None:
        one, two = machines(tmp_path, 2, cloud, queue, optout_shared_tail="off")
        await one.start()
        await two.start()
        await one.replicate(1, "t")
        await two.replicate(1, "t")
        await one.replicate(1)
        await one.replicate(1)
        assert len(queue.messages) == 3
        assert len({message.group_id for message in queue.messages}) == 3
        await one.produce()
        assert (one.recorded(), queue.messages) == ([1, 1, 1], [])

    run(work())


def test_the_library_is_an_extra(tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    file = tmp_path / "optout.json"
    file.write_text(
        json.dumps(
            {
                "att_token_enc_key": "key",
                "att_token_enc_salt": "salt",
                "storage_mock_root": str(tmp_path),
                "optout_s3_bucket": f"file://{tmp_path}",
                "optout_data_dir": str(tmp_path / "data"),
                "optout_sqs_queue_url": "https://sqs.us-east-1.amazonaws.com/1/queue",
            }
        )
    )
    assert serve(file, {}) == 2
    assert "uid2-confidential-operator[sqs]" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/q", "eu-central-1"),
        ("https://us-gov-west-1.queue.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://vpce-1a-2b.sqs.ap-southeast-2.vpce.amazonaws.com/1/q", "ap-southeast-2"),
        ("https://queue.amazonaws.com/1/q", None),
    ],
)
def test_the_region_is_in_the_address(url: str, region: str | None) -> None:
    assert region_of(SqsAddress(url)) == region
    assert region_of(SqsAddress(url, region="eu-west-3")) == "eu-west-3"


def test_a_region_that_nobody_names_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError) as refusal:
        SqsClient(SqsAddress("https://queue.example.com/1/q"))
    assert "aws_region" in refusal.value.next_step


def test_nobody_without_a_key_is_heard(tmp_path: Path, cloud: Cloud, queue: Queue) -> None:
    async def work() -> None:
        service = await OptOut(tmp_path, **members(cloud, queue)).start()
        answer = await service.http.get("/optout/replicate", params=parameters(1))
        assert answer.status_code == 401
        assert KEY not in answer.text

    run(work())
    assert queue.messages == []
