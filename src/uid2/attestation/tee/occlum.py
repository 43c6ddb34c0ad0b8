"""Quotes inside Occlum: two ioctls on /dev/sgx, a device that exists in the enclave only (enclave chapter, 4.2).

GET_DCAP_QUOTE_SIZE  0x80047307   u32 out
GEN_DCAP_QUOTE       0xC0187308   three u64 pointers: to 64 bytes of report data, to a u32 size, to the buffer
"""

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from uid2.attestation.quote import LARGEST
from uid2.attestation.tee.sources import QuoteUnavailableError, checked_quote, checked_report_data

DEVICE: Final = Path("/dev/sgx")
GET_DCAP_QUOTE_SIZE: Final = 0x80047307
GEN_DCAP_QUOTE: Final = 0xC0187308
ATTEMPTS: Final = 20
PAUSE_SECONDS: Final = 1.0
_BUSY: Final = frozenset({errno.EBUSY, errno.EAGAIN})
_NEXT_STEP: Final = (
    "look for 0xE0.. on the container's error output; check the SGX devices and the quote provider, then start again"
)

Ioctl = Callable[[int, int, object], object]


class _Request(ctypes.Structure):
    _fields_ = [
        ("report_data", ctypes.c_void_p),
        ("quote_size", ctypes.c_void_p),
        ("quote", ctypes.c_void_p),
    ]


def _ioctl(descriptor: int, request: int, argument: object) -> object:
    return fcntl.ioctl(descriptor, request, argument, True)  # type: ignore[call-overload]  # a ctypes buffer


@final
class OcclumQuoteSource:
    kind: Final = "occlum"

    def __init__(
        self, device: Path = DEVICE, ioctl: Ioctl = _ioctl, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._device = device
        self._ioctl = ioctl
        self._pause = pause

    def quote_size(self) -> int:
        """Bytes of this boot's quotes. Raises QuoteUnavailableError."""
        descriptor = self._open()
        try:
            return self._size(descriptor)
        finally:
            os.close(descriptor)

    def quote(self, report_data: bytes) -> bytes:
        data = ctypes.create_string_buffer(checked_report_data(report_data), len(report_data))
        descriptor = self._open()
        try:
            length = self._size(descriptor)
            size = ctypes.c_uint32(length)
            buffer = ctypes.create_string_buffer(length)
            request = _Request(ctypes.addressof(data), ctypes.addressof(size), ctypes.addressof(buffer))
            self._call(descriptor, GEN_DCAP_QUOTE, request)
        finally:
            os.close(descriptor)
        return checked_quote(buffer.raw, report_data)

    def _open(self) -> int:
        try:
            return os.open(self._device, os.O_RDONLY)
        except OSError as error:
            raise QuoteUnavailableError(
                f"{self._device} cannot be opened: {os.strerror(error.errno or 0)}", next_step=_NEXT_STEP
            ) from None

    def _size(self, descriptor: int) -> int:
        size = ctypes.c_uint32(0)
        self._call(descriptor, GET_DCAP_QUOTE_SIZE, size)
        if not 0 < size.value <= LARGEST:
            raise QuoteUnavailableError(f"{self._device} offers quotes of {size.value} bytes", next_step=_NEXT_STEP)
        return size.value

    def _call(self, descriptor: int, request: int, argument: object) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._ioctl(descriptor, request, argument)
            except OSError as error:
                if error.errno in _BUSY and attempt + 1 < ATTEMPTS:
                    self._pause(PAUSE_SECONDS)
                    continue
                name = errno.errorcode.get(error.errno or 0, "unknown")
                raise QuoteUnavailableError(f"{self._device} refused a quote: {name}", next_step=_NEXT_STEP) from None
            return
