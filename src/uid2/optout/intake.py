"""Which queue, tail and claims a configuration asks for.

queue     bucket, or optout_shared_tail      order of the live tail       claims
folder    file://                            the queue itself             none
folder    any other, or `on`                 a log beside the queue       yes
SQS       any                                a log in the queue's folder  yes
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from uid2.optout.bucket import Bucket
from uid2.optout.claims import ClaimBook, Claims, NoClaims
from uid2.optout.file_list import FileList
from uid2.optout.local_queue import LocalQueue
from uid2.optout.messages import QueuedMessage
from uid2.optout.queue import OptOutQueue
from uid2.optout.queue_log import QueueLog
from uid2.optout.recent import RecentMessages
from uid2.optout.settings import OptOutSettings
from uid2.optout.shared_tail import SharedTail
from uid2.optout.sqs_client import SqsAddress, SqsClient
from uid2.optout.sqs_queue import SqsQueue
from uid2.optout.tail import Tail
from uid2.optout.tail_objects import TailObjects
from uid2.service.clock import Clock, Entropy

ID_LENGTH: Final = 8
TAIL_FOLDER: Final = "tail"


@dataclass(frozen=True, slots=True)
class Intake:
    """`shared` is None where the queue's own order is that of the tail."""

    queue: OptOutQueue
    tail: Tail
    claims: Claims
    shared: SharedTail | None


def open_intake(
    settings: OptOutSettings,
    bucket: Bucket,
    files: FileList,
    clock: Clock,
    entropy: Entropy,
    denied: Callable[[QueuedMessage], bool],
) -> Intake:
    """ConfigurationError, StoreUnavailableError. `denied` opt-outs are not told to operators."""
    recent = RecentMessages()
    # What is in a file now is in the next two listings of every instance.
    settle_ms = (3 * settings.cloud_refresh_interval + 60) * 1000
    folder = settings.optout_queue_dir
    if not settings.uses_sqs and not settings.shares_tail:
        log = QueueLog(folder, entropy.bytes(ID_LENGTH), recent.add)
        tail = Tail(log, recent, settle_ms, clock.now_ms, denied)
        return Intake(LocalQueue(log, clock.now_ms, tail.reached), tail, NoClaims(), None)
    client = SqsClient(sqs_address(settings)) if settings.uses_sqs else None
    log = QueueLog(folder / TAIL_FOLDER, entropy.bytes(ID_LENGTH), recent.add)
    tail = Tail(log, recent, settle_ms, clock.now_ms)
    claims = ClaimBook(bucket, settings.optout_s3_folder, clock)

    def paths() -> Collection[str]:
        return {file.path for file in files.files or ()}

    shared = SharedTail(
        log,
        TailObjects(bucket, settings.optout_s3_folder, entropy.bytes(ID_LENGTH).hex())
        if settings.shares_tail
        else None,
        claims,
        paths,
        settle_ms,
        clock.now_ms,
        denied,
        tail.reached,
    )
    queue: OptOutQueue
    if client is not None:
        visibility = settings.optout_sqs_visibility_timeout
        queue = SqsQueue(client, visibility, clock.now_ms, entropy, shared.take, shared.knows)
    else:
        own = QueueLog(folder, entropy.bytes(ID_LENGTH))
        queue = LocalQueue(own, clock.now_ms, taken=shared.take)
    return Intake(queue, tail, claims, shared)


def sqs_address(settings: OptOutSettings) -> SqsAddress:
    assert settings.optout_sqs_queue_url is not None, "asked before"
    return SqsAddress(
        settings.optout_sqs_queue_url,
        settings.aws_sqs_endpoint,
        settings.aws_region,
        settings.aws_access_key_id,
        settings.aws_secret_access_key,
    )
