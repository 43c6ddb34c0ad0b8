"""Tells partners of opt-outs, each at its own pace (opt-out chapter, 7.3).

listing ─▶ deltas not sent yet, oldest first ─▶ entry by entry ─▶ state in the bucket
                                                    └ failed: an hour's pause, then on from that entry

A partner may be told twice, after a restart, and is never passed over. One that fails holds up itself alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

import httpx

from uid2.optout.bucket import Bucket
from uid2.optout.durable_files import locked
from uid2.optout.file_list import FileList
from uid2.optout.listing import ListedFile
from uid2.optout.partitions import merged_entries
from uid2.optout.partner_calls import NotSentError, PartnerCalls
from uid2.optout.partner_list import PartnerList
from uid2.optout.partner_state import PartnerStates, SendState
from uid2.protocol.errors import StoreFormatError, Uid2Error
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import iter_entries
from uid2.protocol.partners import Partner
from uid2.service.clock import Clock
from uid2.service.health import Health
from uid2.service.metrics import Metrics
from uid2.stores.tls import trusted_roots

PAUSE_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 1.0
# For so long after its name's time a delta may still turn up in a listing.
LATE_SECONDS: Final = 1800

_log = logging.getLogger(__name__)


@final
class PartnerSender:
    """One partner. `step` gives the seconds until the next."""

    def __init__(
        self,
        calls: PartnerCalls,
        partner: Partner,
        bucket: Bucket,
        states: PartnerStates,
        files: FileList,
        environment: Environment,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._calls = calls
        self._name = partner.name.lower()
        self._bucket = bucket
        self._states = states
        self._files = files
        self._environment = environment
        self._clock = clock
        self._metrics = metrics
        self._state: SendState | None = None
        self._begun: tuple[str, int] = ("", 0)
        self._damaged: set[str] = set()
        self._seen: tuple[ListedFile, ...] | None = None
        self.problem: str | None = None
        self.waiting = 0

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        while True:
            await sleep(await self.step())

    async def step(self) -> float:
        files = self._files.files
        if files is None or files is self._seen:
            return LOOK_SECONDS
        try:
            if self._state is None:
                self._state = await asyncio.to_thread(self._states.read, self._name)
            for file in self._waiting(self._state, files):
                await self._send(file)
                self._state = self._state.with_sent(file, self._settled(), files)
                self._waiting(self._state, files)
                await self._keep(self._state)
        except NotSentError as error:
            self._tell(f"{error.outcome}, tried again in an hour")
            return PAUSE_SECONDS
        except Uid2Error as error:
            self._tell(error.message)
            return LOOK_SECONDS * 10
        self.problem, self._seen = None, files
        return LOOK_SECONDS

    async def _send(self, file: ListedFile) -> None:
        data = await asyncio.to_thread(self._bucket.read, file.path)
        try:
            entries = [e for e in iter_entries(merged_entries([(file.path, data)]), self._environment) if not e.special]
        except StoreFormatError as error:
            self._damaged.add(file.path)
            _log.error("%s is not sent to partners: %s", file.path, error.message)
            raise
        start = self._begun[1] if self._begun[0] == file.path else 0
        for number, entry in enumerate(entries[start:], start):
            self._begun = (file.path, number)
            try:
                await self._calls.send(entry)
            except NotSentError as error:
                self._count(error.outcome)
                raise
            self._count("success")
            self._metrics.gauge("uid2_optout_last_entry_sent", entry.timestamp, remote_partner=self._name)

    async def _keep(self, state: SendState) -> None:
        try:
            await asyncio.to_thread(self._states.write, self._name, state)
        except Uid2Error as error:
            _log.error("the state of partner %s is not kept: %s", self._name, error.message)

    def _waiting(self, state: SendState, files: Sequence[ListedFile]) -> list[ListedFile]:
        found = state.waiting(files)
        self.waiting = len(found)
        self._metrics.gauge("uid2_optout_pending_deltas_to_send", len(found), remote_partner=self._name)
        return [file for file in found if file.path not in self._damaged]

    def _settled(self) -> int:
        return self._clock.now_ms() // 1000 - LATE_SECONDS

    def _count(self, outcome: str) -> None:
        self._metrics.count("uid2_optout_entries_sent_total", remote_partner=self._name, status=outcome)

    def _tell(self, problem: str) -> None:
        self.problem = problem
        _log.error("partner %s was not told of all opt-outs: %s", self._name, problem)


@final
class Forwarding:
    """The senders of all partners; of the processes that share `lock_file` one at a time sends."""

    def __init__(
        self,
        partners: PartnerList,
        sender: Callable[[Partner, httpx.AsyncClient], PartnerSender],
        lock_file: Path,
        health: Health,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._partners = partners
        self._sender = sender
        self._lock_file = lock_file
        self._health = health
        self._transport = transport
        self._running: dict[Partner, tuple[PartnerSender | None, asyncio.Task[None] | None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with locked(self._lock_file, wait=False) as mine:
                if mine:
                    await self._send()
            await asyncio.sleep(LOOK_SECONDS)

    def status(self) -> list[dict[str, Any]]:
        """For /ops/status."""
        return [
            {"name": partner.name, "waiting": None if sender is None else sender.waiting, "problem": _problem(sender)}
            for partner, (sender, _) in self._running.items()
        ]

    async def _send(self) -> None:
        async with httpx.AsyncClient(transport=self._transport, verify=trusted_roots(), trust_env=False) as client:
            try:
                while True:
                    await self._follow_list(client)
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                await self._stop(list(self._running))

    async def _follow_list(self, client: httpx.AsyncClient) -> None:
        wanted = self._partners.partners
        await self._stop([partner for partner in self._running if partner not in wanted])
        for partner in wanted:
            if partner in self._running:
                continue
            component = self._health.component(f"optout-sender-{partner.name.lower()}")
            try:
                sender = self._sender(partner, client)
            except Uid2Error as error:
                component.fail(error.message)
                _log.error("%s", error.message, extra={"next_step": error.next_step})
                self._running[partner] = (None, None)
                continue
            component.recover()
            self._running[partner] = (sender, asyncio.create_task(sender.run(), name=f"partner {partner.name}"))

    async def _stop(self, partners: Sequence[Partner]) -> None:
        for partner in partners:
            _, task = self._running.pop(partner)
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _problem(sender: PartnerSender | None) -> str | None:
    return "its configuration cannot be used" if sender is None else sender.problem
