"""Answers the calls that the sandbox's filter holds back: quotes by /dev/sgx, and ENOSYS for what Occlum has not.

seccomp_notif       id u64, pid u32, flags u32, then nr i32, architecture u32, ip u64, six arguments u64   80 bytes
seccomp_notif_resp  id u64, value i64, error i32, flags u32                                                24 bytes
"""

import ctypes
import errno
import fcntl
import os
import select
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, final

from uid2.attestation.quote import REPORT_DATA_LENGTH
from uid2.attestation.tee.occlum import DEVICE, GEN_DCAP_QUOTE, GET_DCAP_QUOTE_SIZE
from uid2.packaging.seccomp_filter import CLONE_VM, answered_calls
from uid2.protocol.errors import Uid2Error

# A quote over 64 bytes of report data. Raises Uid2Error when there is none.
QuoteOf = Callable[[bytes], bytes]

_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_STILL_THERE: Final = 0x40082102
_CONTINUE: Final = 1
_NOTICE: Final = struct.Struct("<QIIiIQ6Q")
_ANSWER: Final = struct.Struct("<Qqii")
_CLONE, _SOCKET, _IOCTL = 56, 41, 16
_FAMILIES: Final = (1, 2, 10, 16)
_WAIT_MS: Final = 200


@final
class HeldCalls:
    """`used` counts only what the filter shows: everything when it traces, else nothing but ioctls on /dev/sgx."""

    def __init__(self, listener: int, quote_of: QuoteOf, quote_length: int) -> None:
        self._listener = listener
        self._quote_of = quote_of
        self._quote_length = quote_length
        self._answered = frozenset(answered_calls().values())
        self.used: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.quotes = 0
        self.failure = ""

    def serve(self, ended: Callable[[], bool]) -> None:
        """Answers until every process under the filter is gone, or `ended` says so."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            events = poll.poll(_WAIT_MS)
            if not events:
                if ended():
                    return
                continue
            if not events[0][1] & select.POLLIN:
                return
            self._answer_one()

    def _answer_one(self) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return
            raise
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        refusal, flags = self._verdict(number, pid, call, arguments)
        answer = bytearray(_ANSWER.pack(number, 0, -refusal, flags))
        try:
            fcntl.ioctl(self._listener, _SEND, answer, True)
        except OSError as gone:
            if gone.errno != errno.ENOENT:
                raise

    def _verdict(self, number: int, pid: int, call: int, arguments: list[int]) -> tuple[int, int]:
        """Error number (0: done) and flags for one call."""
        if call == _IOCTL and arguments[1] & 0xFFFFFFFF in (GET_DCAP_QUOTE_SIZE, GEN_DCAP_QUOTE):
            self.used[call] += 1
            if self._device_of(pid, arguments[0]) != str(DEVICE):
                return 0, _CONTINUE
            return self._device_call(number, pid, arguments[1] & 0xFFFFFFFF, arguments[2]), 0
        allowed = call in self._answered
        if call == _CLONE:
            allowed = bool(arguments[0] & CLONE_VM)
        elif call == _SOCKET:
            allowed = arguments[0] & 0xFFFFFFFF in _FAMILIES
        if allowed:
            self.used[call] += 1
            return 0, _CONTINUE
        self.refused[call] += 1
        return errno.ENOSYS, 0

    def _device_of(self, pid: int, descriptor: int) -> str:
        try:
            return os.readlink(f"/proc/{pid}/fd/{ctypes.c_int(descriptor).value}")
        except OSError:
            return ""

    def _device_call(self, number: int, pid: int, request: int, argument: int) -> int:
        """The error number of a request of /dev/sgx (enclave chapter, 4.2)."""
        try:
            memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            self.failure = f"the memory of the program cannot be opened: {error.strerror}"
            return errno.EIO
        try:
            # The process of this number is still the one that waits, so the memory is its own.
            fcntl.ioctl(self._listener, _STILL_THERE, struct.pack("<Q", number))
            if request == GET_DCAP_QUOTE_SIZE:
                os.pwrite(memory, self._quote_length.to_bytes(4, "little"), argument)
                return 0
            data_at, size_at, quote_at = struct.unpack("<QQQ", os.pread(memory, 24, argument))
            report_data = os.pread(memory, REPORT_DATA_LENGTH, data_at)
            (size,) = struct.unpack("<I", os.pread(memory, 4, size_at))
            quote = self._quote_of(report_data)
            if size < len(quote):
                return errno.EINVAL
            os.pwrite(memory, quote, quote_at)
            self.quotes += 1
            return 0
        except Uid2Error as error:
            self.failure = error.message
            return errno.EIO
        except (OSError, struct.error, OverflowError, ValueError):
            return errno.EFAULT
        finally:
            os.close(memory)
