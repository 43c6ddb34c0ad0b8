"""Bringing many opt-outs to an opt-out service, each as an operator does it on a logout."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Final, final
from urllib.parse import urlencode

import httpx

from uid2.client.import_journal import ImportJournal
from uid2.client.optout_rows import BadRow, OptOutRow
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.secret import Secret
from uid2.stores.tls import trusted_roots

PATH: Final = "/optout/replicate"
INSTANCE: Final = "uid2-admin"
BATCH_ROWS: Final = 1000
TIMEOUT_SECONDS: Final = 30.0
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0)


@dataclass(slots=True)
class ImportCounts:
    """`repeated`: the service had confirmed them before. `refused` by reason."""

    sent: int = 0
    repeated: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@final
class OptOutImport:
    """`service` is the address of the opt-out service, `key` an operator key of role OPTOUT."""

    def __init__(
        self,
        service: str,
        key: Secret,
        journal: ImportJournal,
        *,
        concurrency: int = 32,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._address = service.rstrip("/") + PATH
        self._key = key
        self._journal = journal
        self._concurrency = concurrency
        self._transport = transport
        self._sleep = sleep
        self.counts = ImportCounts()

    async def run(self, rows: Iterable[OptOutRow | BadRow], advance: Callable[[int], None] = lambda _: None) -> None:
        """Everything of `rows`; `advance` gets the rows of each finished batch.

        ConfigurationError: the key is not accepted. DependencyError: the service fails for longer than a while. What
        was confirmed until then is in the journal, and the next run goes on after it.
        """
        remaining = iter(rows)
        limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        async with httpx.AsyncClient(
            transport=self._transport,
            verify=trusted_roots(),
            timeout=TIMEOUT_SECONDS,
            limits=limits,
            trust_env=False,
        ) as client:
            while batch := list(islice(remaining, BATCH_ROWS)):
                await self._bring(client, batch)
                advance(len(batch))

    async def _bring(self, client: httpx.AsyncClient, batch: list[OptOutRow | BadRow]) -> None:
        rows: dict[bytes, OptOutRow] = {}
        for row in batch:
            if isinstance(row, BadRow):
                self.counts.refused[row.why] += 1
            elif row.identity_hash in rows:
                self.counts.repeated += 1
            else:
                rows[row.identity_hash] = row
        known = self._journal.confirmed(list(rows))
        self.counts.repeated += len(known)
        waiting = iter([row for row in rows.values() if row.identity_hash not in known])
        done: list[bytes] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._concurrency):
                    tasks.create_task(self._work(client, waiting, done))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            # Also after a failure or Ctrl-C: what is confirmed is not sent again.
            self._journal.confirm(done)
            self.counts.sent += len(done)

    async def _work(self, client: httpx.AsyncClient, waiting: Iterator[OptOutRow], done: list[bytes]) -> None:
        for row in waiting:
            refusal = await self._send(client, row)
            if refusal is None:
                done.append(row.identity_hash)
            else:
                self.counts.refused[refusal] += 1

    async def _send(self, client: httpx.AsyncClient, row: OptOutRow) -> str | None:
        """None once the service has confirmed the opt-out, else the reason of its refusal."""
        values = {
            "identity_hash": encode_base64(row.identity_hash),
            "advertising_id": encode_base64(row.advertising_id),
        }
        address = f"{self._address}?{urlencode(values)}"
        headers = {
            "Authorization": f"Bearer {self._key.reveal().decode()}",
            "UID-Instance-Id": INSTANCE,
            "UID-Trace-Id": trace_id(row.identity_hash),
        }
        for pause in (*_PAUSES, None):
            try:
                answer = await client.post(address, headers=headers)
            except httpx.HTTPError as error:
                # The text of such an error may quote the address, which holds an identity.
                why = f"could not be called: {type(error).__name__}"
            else:
                if answer.status_code == httpx.codes.OK:
                    return None
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    raise ConfigurationError(
                        "the opt-out service does not accept the operator key",
                        next_step="give --key an enabled operator key with the role OPTOUT",
                    )
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return f"the service answered {answer.status_code}: {answer.text[:200] or 'nothing'}"
                why = f"answered {answer.status_code}"
            if pause is not None:
                await self._sleep(pause)
        raise DependencyError(
            f"the opt-out service {why}", next_step="look into its log, then run the import again: it goes on here"
        )


def trace_id(identity_hash: bytes) -> str:
    """The id of an import of that identity: the same each time, so that the service keeps one entry of it."""
    return "import-" + sha256(b"uid2 opt-out import\0" + identity_hash).hexdigest()[:32]
