"""Quotes from a simulated quoting service; the operator takes them as from any TEE (enclave chapter, 9.1)."""

import socket
from collections.abc import Mapping
from typing import Any, Final, final

import msgspec

from uid2.attestation.tee.sources import QuoteUnavailableError, checked_quote, checked_report_data
from uid2.protocol.encoding import decode_base64, encode_base64

TIMEOUT_SECONDS: Final = 10.0
LONGEST_ANSWER: Final = 1 << 16


@final
class SocketQuoteSource:
    """`path` is the UNIX socket of a QuotingService; `enclave` the record to be quoted as, else the service's own."""

    kind: Final = "simulated"

    def __init__(self, path: str, enclave: Mapping[str, object] | None = None) -> None:
        self._path = path
        self._enclave = enclave

    def quote(self, report_data: bytes) -> bytes:
        members: dict[str, object] = {"report_data": encode_base64(checked_report_data(report_data))}
        if self._enclave is not None:
            members["enclave"] = self._enclave
        request = msgspec.json.encode(members) + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_SECONDS)
                connection.connect(self._path)
                connection.sendall(request)
                with connection.makefile("rb") as answer:
                    line = answer.readline(LONGEST_ANSWER)
        except OSError as error:
            raise QuoteUnavailableError(
                f"the simulated TEE at {self._path} does not answer: {type(error).__name__}",
                next_step="start it (`uid2 up` does), or correct dangerous_simulated_tee",
            ) from None
        return checked_quote(_quote_of(line), report_data)


def _quote_of(line: bytes) -> bytes:
    try:
        members: Any = msgspec.json.decode(line)
        if "error" in members:
            raise QuoteUnavailableError(f"the simulated TEE refused: {members['error']}")
        return decode_base64(members["quote"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise QuoteUnavailableError("the simulated TEE gave an answer that is no quote") from None
