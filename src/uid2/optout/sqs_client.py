"""Calls to one SQS queue. The library is an extra of the package and is loaded only where a queue is configured."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar, final
from urllib.parse import urlsplit

from uid2.optout.queue import RECEIVE_SIZE
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.secret import Secret

DELETE_SIZE: Final = 10
CONNECTIONS: Final = 16
# A caller that repeats its opt-out for 20 s shall hear of a failure while it still can.
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 3
ATTEMPTS: Final = 2
# What a stand-in for the service takes.
STAND_IN_KEY: Final = "test"
FIFO: Final = ".fifo"
_REGION: Final = re.compile(r"(?:\A|\.)(?:sqs\.)?([a-z]{2}(?:-[a-z]+)+-[0-9])\.")
_COUNTS: Final = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SqsAddress:
    """`endpoint` replaces the service by a stand-in. Without keys those of the machine are used."""

    queue_url: str
    endpoint: str | None = None
    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None


class QueueCounts(NamedTuple):
    visible: int
    in_flight: int
    delayed: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the queue gives it. `attributes` has `SentTimestamp`, in milliseconds."""

    message_id: str
    receipt: str = field(repr=False)
    body: str = field(repr=False)
    attributes: dict[str, str]


@final
class SqsClient:
    """Calls block, safe from any thread. DependencyError: the queue did not do it, or that is not known."""

    def __init__(self, address: SqsAddress) -> None:
        self._url = address.queue_url
        self.fifo = self._url.endswith(FIFO)
        self._client, self._failures = _open(address)

    def send(self, body: str, deduplication_id: str) -> str:
        """The queue's name of the message, which it keeps. The id counts in FIFO queues only."""
        # Each message is a group of its own, so that none waits for another.
        fifo = {"MessageGroupId": deduplication_id, "MessageDeduplicationId": deduplication_id} if self.fifo else {}
        answer = self._call("send", lambda: self._client.send_message(QueueUrl=self._url, MessageBody=body, **fifo))
        return str(answer["MessageId"])

    def receive(self, visibility_seconds: int) -> list[Received]:
        answer = self._call(
            "receive",
            lambda: self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=RECEIVE_SIZE,
                WaitTimeSeconds=0,
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=["SentTimestamp"],
            ),
        )
        return [
            Received(part["MessageId"], part["ReceiptHandle"], part.get("Body", ""), part.get("Attributes", {}))
            for part in answer.get("Messages", ())
        ]

    def delete(self, receipts: Sequence[str]) -> list[str]:
        """At most ten at once; those that could not be deleted."""
        entries = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(receipts)]
        answer = self._call("delete", lambda: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries))
        return [receipts[int(part["Id"])] for part in answer.get("Failed", ())]

    def counts(self) -> QueueCounts:
        names = list(_COUNTS.values())
        answer = self._call(
            "read the attributes",
            lambda: self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names),
        )
        try:
            return QueueCounts(*(int(answer["Attributes"][name]) for name in names))
        except (KeyError, ValueError):
            raise DependencyError("SQS: the attributes of the queue have no counts") from None

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._failures as error:
            # The text of such an error may hold an address or a key: its code says enough.
            response = getattr(error, "response", None) or {}
            code = response.get("Error", {}).get("Code") or type(error).__name__
            raise DependencyError(
                f"SQS: cannot {what}: {code}",
                next_step="check optout_sqs_queue_url, aws_region, the credentials and the network",
            ) from None


def region_of(address: SqsAddress) -> str | None:
    """As configured, else as the queue's address says it."""
    if address.region:
        return address.region
    found = _REGION.search(urlsplit(address.queue_url).hostname or "")
    return None if found is None else found[1]


def _open(address: SqsAddress) -> tuple[Any, tuple[type[Exception], ...]]:
    """The library's client, and what its calls raise. ConfigurationError."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ConfigurationError(
            "optout_sqs_queue_url names an SQS queue and the library for SQS is not installed",
            next_step="install the extra: pip install 'uid2-confidential-operator[sqs]'; or leave the key out",
        ) from None
    parts = urlsplit(address.queue_url)
    keys: dict[str, str] = {}
    if address.endpoint:
        keys = {"aws_access_key_id": STAND_IN_KEY, "aws_secret_access_key": STAND_IN_KEY}
    elif address.access_key_id is not None and address.secret_access_key is not None:
        keys = {
            "aws_access_key_id": address.access_key_id.reveal().decode(),
            "aws_secret_access_key": address.secret_access_key.reveal().decode(),
        }
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
    )
    try:
        client = boto3.session.Session().client(
            "sqs",
            region_name=region_of(address),
            endpoint_url=address.endpoint or f"{parts.scheme}://{parts.netloc}",
            config=config,
            **keys,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"the SQS queue cannot be used: {type(error).__name__}",
            next_step="set aws_region, and check optout_sqs_queue_url and aws_sqs_endpoint",
        ) from None
    return client, (BotoCoreError, ClientError)
