"""SQS and S3 on loopback, spoken over real sockets, with faults that a test asks for."""

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from optout_stage import OptOut
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
BAD, LOST, REFUSED = "answers 500", "works and answers 500", "refuses each entry"


class Cloud:
    """`faults[action]` are what happens to the next calls of an action, such as `SendMessage`."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._faulty, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.faults: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.s3 = boto3.client("s3", endpoint_url=self.url, region_name=REGION, **KEYS)
        self.sqs = boto3.client("sqs", endpoint_url=self.url, region_name=REGION, **KEYS)

    def stop(self) -> None:
        self._server.shutdown()

    def queue(self, suffix: str = "", **attributes: str) -> "Queue":
        name = f"q{uuid.uuid4().hex[:12]}{suffix}"
        return Queue(self, name, self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def bucket(self) -> str:
        name = f"b{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        return name

    def _faulty(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.calls.append(action)
        left = self.faults.get(action, [])
        fault = left.pop(0) if left else None
        if fault == LOST:
            self._answer(environ, lambda *_: None)
        if fault == REFUSED:
            body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            failed = [{"Id": e["Id"], "Code": "InternalError", "SenderFault": False} for e in body["Entries"]]
            start("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
            return [json.dumps({"Successful": [], "Failed": failed}).encode()]
        if fault is not None:
            start("500 Internal Server Error", [("Content-Type", "application/x-amz-json-1.0")])
            return [b'{"__type":"InternalFailure"}']
        return self._answer(environ, start)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        # One at a time: the stand-in does not protect its lists.
        with self._lock:
            return list(self._application(environ, start))


class Queue:
    def __init__(self, cloud: Cloud, name: str, url: str) -> None:
        self.cloud = cloud
        self.name = name
        self.url = url

    @property
    def messages(self) -> list[Any]:
        """All that are there, hidden ones too, as the service keeps them."""
        found: list[Any] = get_backend("sqs")[ACCOUNT][REGION].queues[self.name]._messages
        return found

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in self.messages]

    def put(self, body: str) -> None:
        self.cloud.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def show_all(self) -> None:
        """As if every visibility time-out were over."""
        for message in self.messages:
            message.visible_at = 0


def members(cloud: Cloud, queue: Queue | None = None, bucket: str | None = None) -> dict[str, Any]:
    """Configuration that names them."""
    found: dict[str, Any] = {"aws_region": REGION, **KEYS}
    if queue is not None:
        found |= {"aws_sqs_endpoint": cloud.url, "optout_sqs_queue_url": queue.url}
    if bucket is not None:
        found |= {"aws_s3_endpoint": cloud.url, "optout_s3_bucket": bucket}
    return found


def machines(folder: Path, count: int, cloud: Cloud, queue: Queue | None, **more: Any) -> Iterator[OptOut]:
    """Instances that share nothing but the queue and a bucket."""
    bucket = cloud.bucket()
    for n in range(count):
        yield OptOut(folder / f"machine{n}", **members(cloud, queue, bucket), **more)
