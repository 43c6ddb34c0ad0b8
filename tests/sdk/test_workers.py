"""An operator with two workers: the official SDK, logouts, kills, refreshes, metrics, the end."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uid2_client import (
    IdentityMapV3Client,
    IdentityMapV3Input,
    TokenGenerateInput,
    Uid2PublisherClient,
)
from workers_stage import WorkersOperator, alive, now_ms, operator_with_workers, until

from uid2.operator.optout_sink import JOURNAL_FILE
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.optout_log import OptOutFileKind, OptOutFileName

MAP = "/v3/identity/map"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersOperator]:
    with operator_with_workers(tmp_path_factory.mktemp("workers")) as running:
        yield running


def opted_out(operator: WorkersOperator, email: str) -> bool:
    (row,) = operator.call(MAP, {"email": [email]})["body"]["email"]
    return bool(row.get("e") == "optout")


def test_the_sdk_generates_refreshes_and_maps_through_every_worker(operator: WorkersOperator) -> None:
    credentials = operator.credentials

    def use() -> tuple[bool, int]:
        publisher = Uid2PublisherClient(operator.url, credentials.client_key, credentials.client_secret)
        tokens = publisher.generate_token(TokenGenerateInput.from_email("reader@example.com")).get_identity()
        mapper = IdentityMapV3Client(operator.url, credentials.client_key, credentials.client_secret)
        emails = [f"reader{number}@example.com" for number in range(3000)]
        mapped = mapper.generate_identity_map(IdentityMapV3Input.from_emails(emails))
        return publisher.refresh_token(tokens).is_success(), len(mapped.mapped_identities)

    assert operator.everywhere(use) == [(True, 3000), (True, 3000)]
    # All three processes map one table.
    assert len(operator.shared_folders()) == 1


def test_a_logout_counts_in_every_worker_when_it_is_answered(operator: WorkersOperator) -> None:
    for turn in range(3):
        email = f"leaving{turn}@example.com"
        assert operator.everywhere(lambda email=email: opted_out(operator, email)) == [False, False]
        assert operator.call("/v2/token/logout", {"email": email})["body"] == {"optout": "OK"}
        assert operator.everywhere(lambda email=email: opted_out(operator, email)) == [True, True]


def test_what_files_hold_leaves_the_overlay_of_every_process(operator: WorkersOperator) -> None:
    def overlay() -> float:
        # Of all processes the greatest.
        return operator.counted("uid2_operator_optout_overlay_entries")

    for turn in range(3):
        email = f"logged{turn}@example.com"
        operator.call("/v2/token/logout", {"email": email})
        until(lambda: overlay() > 0)
        name = OptOutFileName(OptOutFileKind.DELTA, 0, EpochSeconds(now_ms() // 1000), turn).format()
        folder = operator.optouts / "consumer" / "delta"
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "next.partial"
        partial.write_bytes((operator.optouts / JOURNAL_FILE).read_bytes())
        partial.replace(folder / name)
        until(lambda: overlay() == 0)
        assert operator.everywhere(lambda email=email: opted_out(operator, email)) == [True, True]
    # A worker that is handed what is in force now knows them too.
    replaced = operator.workers()["replaced"]
    os.kill(operator.workers()["pids"][0], signal.SIGKILL)
    until(lambda: operator.workers()["replaced"] == replaced + 1 and operator.workers()["ready"] == 2)
    for turn in range(3):
        found = operator.everywhere(lambda turn=turn: opted_out(operator, f"logged{turn}@example.com"))
        assert found == [True, True]


def test_a_killed_worker_is_replaced_under_load_and_forgets_nothing(operator: WorkersOperator) -> None:
    operator.call("/v2/token/logout", {"email": "before@example.com"})
    before = operator.workers()
    failures: list[Exception] = []
    answered = [0]
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                operator.call("/v2/token/generate", {"email": "load@example.com", "optout_check": 1})
                answered[0] += 1
            except Exception as error:  # noqa: BLE001 - counted
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: answered[0] > 20)
        os.kill(before["pids"][0], signal.SIGKILL)
        until(lambda: operator.workers()["replaced"] == before["replaced"] + 1 and operator.workers()["ready"] == 2)
        seen = answered[0]
        until(lambda: answered[0] > seen + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    # One connection of each caller may have been with the worker that died.
    assert len(failures) <= len(threads)
    assert before["pids"][0] not in operator.workers()["pids"]
    assert operator.everywhere(lambda: opted_out(operator, "before@example.com")) == [True, True]


def test_a_worker_that_hangs_does_not_answer_without_the_logout(operator: WorkersOperator) -> None:
    hanging = operator.workers()["pids"][1]
    os.kill(hanging, signal.SIGSTOP)
    operator.call("/v2/token/logout", {"email": "hanging@example.com"})
    assert not alive(hanging)
    until(lambda: operator.workers()["ready"] == 2)
    assert operator.everywhere(lambda: opted_out(operator, "hanging@example.com")) == [True, True]


def test_a_refresh_swaps_the_stores_of_every_worker(operator: WorkersOperator) -> None:
    (path,) = operator.stores.rglob("runtime_config/metadata.json")
    document = json.loads(path.read_text())
    document["version"] += 1
    document["runtime_config"]["identity_token_expires_after_seconds"] = 1234
    partial = path.with_name("next")
    partial.write_text(json.dumps(document))
    partial.replace(path)

    def lifetime() -> int:
        body: dict[str, Any] = operator.call("/v2/token/generate", {"email": "a@example.com", "optout_check": 1})[
            "body"
        ]
        return round(body["identity_expires"] / 1000 - time.time())

    until(lambda: abs(lifetime() - 1234) < 60)
    assert all(abs(seconds - 1234) < 60 for seconds in operator.everywhere(lifetime))


def test_metrics_are_those_of_all_workers_and_never_fall(operator: WorkersOperator) -> None:
    def requests() -> float:
        return operator.counted("uid2_http_requests_total", path="/v2/token/generate")

    def generate() -> None:
        operator.call("/v2/token/generate", {"email": "counted@example.com", "optout_check": 1})

    before = requests()
    for _ in range(3):
        operator.everywhere(generate)
    until(lambda: requests() == before + 6)
    # The first look-up of each worker is timed.
    assert operator.counted("uid2_optout_get_optout_timestamp_seconds_count", bloom_filter="true_negative") >= 2
    replaced = operator.workers()["replaced"]
    os.kill(operator.workers()["pids"][0], signal.SIGKILL)
    until(lambda: operator.workers()["replaced"] == replaced + 1 and operator.workers()["ready"] == 2)
    assert requests() == before + 6
    generate()
    until(lambda: requests() == before + 7)


def test_health_comes_from_the_whole_operator(operator: WorkersOperator) -> None:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", operator.port, timeout=20)
        connection.request("GET", "/ops/healthcheck")
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    assert operator.everywhere(ask) == [(200, b"OK"), (200, b"OK")]
    assert operator.ops("/ops/healthcheck") == b"OK"


def test_the_end_drains_and_leaves_nothing(tmp_path: Path) -> None:
    with operator_with_workers(tmp_path) as running:
        pids = running.workers()["pids"]
        (folder,) = running.shared_folders()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert not [pid for pid in pids if alive(pid)]
        assert not Path(folder).exists()
        log = running.log.read_text()
    assert "the operator has stopped" in log
    assert "Traceback" not in log


def test_workers_follow_a_killed_operator_and_a_restart_replays(tmp_path: Path) -> None:
    with operator_with_workers(tmp_path) as running:
        running.call("/v2/token/logout", {"email": "gone@example.com"})
        pids = running.workers()["pids"]
        (folder,) = running.shared_folders()
        running.process.kill()
        running.process.wait()
        until(lambda: not any(alive(pid) for pid in pids) and not Path(folder).exists())
    with operator_with_workers(tmp_path) as again:
        assert again.everywhere(lambda: opted_out(again, "gone@example.com")) == [True, True]
