"""Calls to the opt-out service: its files, the live tail, logouts (opt-out chapter, section 2; design, 11.16).

Every call carries the operator key, the attestation token and the JWT for the service. Calls block.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote, urlencode, urljoin, urlsplit

import httpx
import msgspec

from uid2.corelink.attestation import Attestation
from uid2.operator.context import OptOutRequest
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.protocol.errors import DependencyError, StoreUnavailableError
from uid2.protocol.optout_log import LARGEST_TIMESTAMP, check_size
from uid2.service.clock import Clock, Entropy
from uid2.stores.sources.presigned import PresignedSource, shown_address
from uid2.stores.tls import trusted_roots

REFRESH_PATH: Final = "/optout/refresh"
TAIL_PATH: Final = "/optout/tail"
REPLICATE_PATH: Final = "/optout/replicate"
TIMEOUT_SECONDS: Final = 20.0
# A logout is tried again within this time; the answer of an operator should come before its caller gives up.
RECORD_SECONDS: Final = 20.0
LARGEST_LIST: Final = 64 << 20
# Between attempts at one logout.
_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2, 3.2, 3.2)
_CHECK: Final = "check optout_url in Core's configuration, the network and the opt-out service's log"

Entry = tuple[bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class TailPage:
    """`entries`: identity hash, advertising id, epoch seconds; in order."""

    cursor: str
    gap: bool
    entries: tuple[Entry, ...] = field(repr=False)


@final
class OptOutService:
    """`metadata_path` and `api_uri` are addresses, or paths below the `optout_url` that Core names."""

    def __init__(
        self,
        attestation: Attestation,
        clock: Clock,
        entropy: Entropy,
        metadata_path: str | None,
        api_uri: str | None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._attestation = attestation
        self._clock = clock
        self._entropy = entropy
        self._metadata_path = metadata_path
        self._api_uri = api_uri
        self._sleep = sleep
        self._client = httpx.Client(
            transport=transport,
            verify=trusted_roots(),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )
        self._content = PresignedSource(transport)

    def files(self) -> dict[str, str]:
        """Signed addresses by the path of each file. StoreUnavailableError for anything but a good list."""
        try:
            answer = self._call("GET", self._address(self._metadata_path or REFRESH_PATH), TIMEOUT_SECONDS)
        except DependencyError as error:
            raise StoreUnavailableError(error.message, next_step=error.next_step) from None
        if answer.status_code != 200:
            raise StoreUnavailableError(
                f"the opt-out service answered {answer.status_code} to the request for its files",
                next_step="look into the opt-out service's log",
            )
        try:
            logs = msgspec.json.decode(answer.content)["optout_logs"]
            return {unquote(urlsplit(log["location"]).path).lstrip("/"): log["location"] for log in logs}
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise StoreUnavailableError(
                "the opt-out service's list of files cannot be read", next_step="compare the versions of both services"
            ) from None

    def fetch(self, address: str, target: Path) -> int:
        """Write a file as it comes, whole or not at all; its size. StoreUnavailableError, StoreFormatError."""
        partial = target.with_name(target.name + ".partial")
        shown = shown_address(address)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                self._content.copy(address, file)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            check_size(size)
            partial.replace(target)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot keep {shown}: {error.strerror}", next_step=f"check the space and rights of {target.parent}"
            ) from None
        finally:
            partial.unlink(missing_ok=True)
        return size

    def page(self, after: str | None, wait_seconds: int) -> TailPage | None:
        """What followed a cursor; None where the service has no live tail. DependencyError."""
        query = {} if after is None else {"after": after, "wait": str(wait_seconds)}
        address = urljoin(self._address(self._metadata_path or REFRESH_PATH), TAIL_PATH)
        answer = self._call(
            "GET", f"{address}?{urlencode(query)}" if query else address, wait_seconds + TIMEOUT_SECONDS
        )
        if answer.status_code in (404, 405):
            return None
        if answer.status_code != 200:
            raise DependencyError(f"the live tail answered {answer.status_code}", next_step=_CHECK)
        try:
            body: Any = msgspec.json.decode(answer.content)["body"]
            entries = tuple(
                (decode_base64(entry["identity_hash"]), decode_base64(entry["advertising_id"]), int(entry["timestamp"]))
                for entry in body["entries"]
            )
            if not all(len(h) == 32 and len(i) in (32, 33) and 0 <= at <= LARGEST_TIMESTAMP for h, i, at in entries):
                raise ValueError("not the lengths of an entry")
            return TailPage(str(body["cursor"]), bool(body["gap"]), entries)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise DependencyError("the live tail's answer cannot be read", next_step=_CHECK) from None

    def record(self, optout: OptOutRequest) -> None:
        """Returns once the service has answered 200. DependencyError: it has not, in all of `RECORD_SECONDS`.

        Tried again under the same id, of which the service keeps one entry, so an answer that got lost does no harm.
        """
        values = {
            "identity_hash": encode_base64(optout.first_level_hash),
            "advertising_id": encode_base64(optout.raw_uid),
        }
        address = f"{self._address(self._api_uri or REPLICATE_PATH)}?{urlencode(values)}"
        own = self._entropy.bytes(16).hex()
        trace_id = own if optout.trace_id is None else f"{optout.trace_id[:128]}-{own}"
        members = {"email": optout.email, "phone": optout.phone, "client_ip": optout.client_ip}
        body = msgspec.json.encode({name: value for name, value in members.items() if value is not None})
        end = self._clock.monotonic() + RECORD_SECONDS
        for pause in _PAUSES:
            left = end - self._clock.monotonic()
            try:
                answer = self._call("POST", address, max(1.0, left), body, {"UID-Trace-Id": trace_id})
            except DependencyError as error:
                failure = error
            else:
                if answer.status_code == 200:
                    return
                failure = DependencyError(
                    f"the opt-out service answered {answer.status_code}", next_step="look into its log"
                )
                if answer.status_code < 500:
                    break
            if self._clock.monotonic() + pause >= end:
                break
            self._sleep(pause)
        raise failure

    def close(self) -> None:
        self._client.close()
        self._content.close()

    def _address(self, named: str) -> str:
        if urlsplit(named).scheme:
            return named
        base = self._attestation.optout_url
        if base is None:
            raise DependencyError(
                "Core has named no opt-out service", next_step="set optout_url in Core's configuration"
            )
        return urljoin(base, named)

    def _call(
        self,
        method: str,
        address: str,
        seconds: float,
        body: bytes | None = None,
        more: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One answer; a 401 attests anew and asks once more."""
        held = self._attestation.credentials()
        answer = self._once(method, address, seconds, body, more)
        if answer.status_code == 401 and self._attestation.rejected(held):
            answer = self._once(method, address, seconds, body, more)
        return answer

    def _once(
        self, method: str, address: str, seconds: float, body: bytes | None, more: Mapping[str, str] | None
    ) -> httpx.Response:
        headers = {**self._attestation.optout_headers(), **(more or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._client.request(method, address, headers=headers, content=body, timeout=seconds)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            # The text of such an error may quote the address, which holds an identity.
            raise DependencyError(
                f"the opt-out service could not be called: {type(error).__name__}", next_step=_CHECK
            ) from None
        if len(answer.content) > LARGEST_LIST:
            raise DependencyError("the opt-out service's answer is too long", next_step=_CHECK)
        return answer
