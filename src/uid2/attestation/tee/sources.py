"""Where quotes come from: one interface for every TEE (enclave chapter, 4.1)."""

import re
from typing import Final, Protocol

from uid2.attestation.quote import REPORT_DATA_LENGTH, parse_quote
from uid2.attestation.reasons import AttestationError
from uid2.protocol.errors import Uid2Error

# Errors of the quote library as they appear on a container's error output (enclave chapter, 2.4 and 4.2).
QUOTE_ERRORS: Final = {
    0xE011: "the platform has no certificate data: install the platform's quote provider library",
    0xE012: "protected memory is exhausted: run one operator on the machine",
    0xE016: "the quoting enclave cannot be loaded: install libsgx-ae-qe3, libsgx-ae-pce and libsgx-ae-id-enclave",
    0xE019: "the provider library cannot reach its service: on Azure replace libsgx-dcap-default-qpl by az-dcap-client",
    0xE01B: "no collateral for the platform",
    0xE02C: "the TCB info has expired",
    0xE02E: "a certificate revocation list has expired",
    0xE035: "no privilege for the provision device: map /dev/sgx_provision and join the group sgx_prv",
    0xE03F: "no SGX device: map /dev/sgx_enclave and /dev/sgx_provision into the container",
    0xE040: "the quoting service is not available: start AESM, or enable the quote helper of the cluster",
    0xE043: "the quoting service is busy",
    0xE046: "the provider's answer cannot be read: on Azure install az-dcap-client, remove libsgx-dcap-default-qpl",
    0xE047: "the platform is unknown to the collateral cache",
}
_ERROR_NUMBER: Final = re.compile(r"0x(?:0000)?(e0[0-9a-f]{2})\b", re.IGNORECASE)


class QuoteUnavailableError(Uid2Error):
    """This machine, or this moment, gives no quote."""

    code = "quote_unavailable"


class QuoteSource(Protocol):
    @property
    def kind(self) -> str:
        """`occlum`, `gramine` or `simulated`."""
        ...

    def quote(self, report_data: bytes) -> bytes:
        """A quote over 64 bytes of report data; blocks. Raises QuoteUnavailableError."""
        ...


def explain_quote_errors(text: str) -> tuple[str, ...]:
    """What the error numbers in a log text mean, each once."""
    numbers = dict.fromkeys(int(number, 16) for number in _ERROR_NUMBER.findall(text))
    return tuple(f"{number:#06x}: {QUOTE_ERRORS[number]}" for number in numbers if number in QUOTE_ERRORS)


def checked_report_data(report_data: bytes) -> bytes:
    if len(report_data) != REPORT_DATA_LENGTH:
        raise ValueError(f"report data has {REPORT_DATA_LENGTH} bytes, not {len(report_data)}")
    return report_data


def checked_quote(quote: bytes, report_data: bytes) -> bytes:
    """The quote, if it is one over `report_data`. Raises QuoteUnavailableError."""
    try:
        parsed = parse_quote(quote)
    except AttestationError as error:
        raise QuoteUnavailableError(f"the TEE gave no usable quote: {error.message}") from None
    if parsed.report.report_data != report_data:
        raise QuoteUnavailableError("the TEE gave a quote over other report data than asked")
    return quote
