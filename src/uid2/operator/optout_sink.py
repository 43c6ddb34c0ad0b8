"""Where a logout is made to last: the opt-out service or the local journal (operator, 8.5; opt-out chapter, 5)."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final
from urllib.parse import quote, urlsplit

import httpx

from uid2.operator.context import OptOutRequest, OptOutSink
from uid2.operator.optout_service import OptOutService
from uid2.operator.settings import OperatorSettings
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.ids import Environment, EpochSeconds
from uid2.protocol.optout_log import OptOutEntry
from uid2.protocol.secret import Secret
from uid2.stores.optout_journal import OptOutJournal
from uid2.stores.tls import trusted_roots

TIMEOUT_SECONDS: Final = 60.0
# Logouts on their way at the same time; more wait their turn. Known to the enclave's configuration too.
LOGOUT_THREADS: Final = 16
JOURNAL_FILE: Final = "optout-journal.dat"
DEVELOPMENT: Final = "development"


@final
class NoOptOutSink:
    """Neither a service nor a journal is configured: every logout fails, as documented."""

    async def record(self, optout: OptOutRequest) -> None:
        del optout
        raise DependencyError(
            "no opt-out service is configured", next_step="set optout_api_uri, or storage_mock for a local journal"
        )


@final
class JournalSink:
    """The durable local log of mock mode."""

    def __init__(self, journal: OptOutJournal) -> None:
        self._journal = journal

    async def record(self, optout: OptOutRequest) -> None:
        await asyncio.to_thread(self._journal.append, entry_of(optout))


@final
class AttestedSink:
    """The opt-out service, called as an attested operator; blocks a thread, not the loop.

    The threads are its own: logouts that wait for a service that is away hold up neither attestation nor refreshes.
    """

    def __init__(self, service: OptOutService) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(LOGOUT_THREADS, thread_name_prefix="logout")

    async def record(self, optout: OptOutRequest) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._service.record, optout)


@final
class OptOutServiceSink:
    """`POST <optout_api_uri>?identity_hash=…&advertising_id=…`; anything but 200 is a failure, nothing is retried."""

    def __init__(self, uri: str, token: Secret | None, instance_id: str, client: httpx.AsyncClient) -> None:
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("optout_api_uri must be an http or https address", next_step="correct the key")
        # Query parameters of the configured address are dropped: only scheme, host, port and path count.
        self._target = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._token = token
        self._instance_id = instance_id
        self._client = client

    async def record(self, optout: OptOutRequest) -> None:
        headers = {"UID-Instance-Id": self._instance_id}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal().decode()}"
        if optout.trace_id is not None:
            headers["UID-Trace-Id"] = optout.trace_id
        body = {
            name: value
            for name, value in (("email", optout.email), ("phone", optout.phone), ("client_ip", optout.client_ip))
            if value is not None
        }
        values = (("identity_hash", optout.first_level_hash), ("advertising_id", optout.raw_uid))
        query = "&".join(f"{name}={quote(encode_base64(value), safe='')}" for name, value in values)
        try:
            answer = await self._client.post(f"{self._target}?{query}", headers=headers, json=body)
        except (httpx.HTTPError, UnicodeError) as error:
            raise DependencyError(
                f"the opt-out service could not be called: {type(error).__name__}",
                next_step="check optout_api_uri and the opt-out service",
            ) from None
        if answer.status_code != 200:
            raise DependencyError(
                f"the opt-out service answered {answer.status_code}", next_step="look into the opt-out service's log"
            )


def open_client() -> httpx.AsyncClient:
    """The client for the service; redirects are not followed, the environment's proxies do not count."""
    return httpx.AsyncClient(verify=trusted_roots(), timeout=TIMEOUT_SECONDS, trust_env=False)


def entry_of(optout: OptOutRequest) -> OptOutEntry:
    """The log entry of a logout."""
    return OptOutEntry(bytes(optout.first_level_hash), bytes(optout.raw_uid), optout.at)


def open_sink(
    settings: OperatorSettings,
    service: OptOutService | None,
    instance_id: str,
    environment: Environment,
    now: EpochSeconds,
) -> tuple[OptOutSink, OptOutJournal | None]:
    """Where the logouts of an operator last, and its journal where it keeps one."""
    if service is not None and (settings.optout_api_uri or settings.optout_metadata_path):
        return AttestedSink(service), None
    if settings.optout_api_uri is not None:
        return OptOutServiceSink(settings.optout_api_uri, settings.core_api_token, instance_id, open_client()), None
    local = settings.storage_mock or settings.environment == DEVELOPMENT
    if not local or settings.optout_data_dir is None:
        return NoOptOutSink(), None
    journal = OptOutJournal(settings.optout_data_dir / JOURNAL_FILE, environment, now)
    return JournalSink(journal), journal
