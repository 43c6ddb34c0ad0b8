"""Quotes inside Gramine: pseudo-files under /dev/attestation (enclave chapter, 4.4)."""

import os
import threading
from pathlib import Path
from typing import Final, final

from uid2.attestation.tee.sources import QuoteUnavailableError, checked_quote, checked_report_data

FOLDER: Final = Path("/dev/attestation")
DCAP: Final = "dcap"


@final
class GramineQuoteSource:
    kind: Final = "gramine"

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        # The two files belong together; another thread between them would get a foreign quote.
        self._lock = threading.Lock()

    def attestation_type(self) -> str:
        """`dcap` or `none`. Raises QuoteUnavailableError: not inside Gramine."""
        return self._read("attestation_type").decode("ascii", "replace").strip()

    def quote(self, report_data: bytes) -> bytes:
        data = checked_report_data(report_data)
        with self._lock:
            try:
                descriptor = os.open(self._folder / "user_report_data", os.O_WRONLY)
                try:
                    written = os.write(descriptor, data)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise _unavailable("user_report_data", error) from None
            if written != len(data):
                raise QuoteUnavailableError("the report data was taken only in part")
            return checked_quote(self._read("quote"), data)

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise _unavailable(name, error) from None


def _unavailable(name: str, error: OSError) -> QuoteUnavailableError:
    return QuoteUnavailableError(
        f"/dev/attestation/{name}: {os.strerror(error.errno or 0)}",
        next_step='set sgx.remote_attestation = "dcap" in the Gramine manifest',
    )
