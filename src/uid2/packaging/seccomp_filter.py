"""The filter of system calls that stands in for Occlum's call table (enclave chapter, 6.5).

A program of the kernel's packet filter: 8 bytes an instruction, {u16 code, u8 jump if true, u8 jump if false, u32 k}.
It reads the call's description: number at 0, architecture at 4, arguments of 64 bits from 16 on.
"""

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from uid2.attestation.tee.occlum import GEN_DCAP_QUOTE, GET_DCAP_QUOTE_SIZE

ALLOW: Final = 0x7FFF0000
NOTIFY: Final = 0x7FC00000
KILL: Final = 0x80000000
CLONE_VM: Final = 0x100
_X86_64: Final = 0xC000003E
_X32: Final = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _ANY, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
# The call that hands out the listener: nobody could answer a notification of it yet.
_SENDMSG: Final = 46


@cache
def _table() -> dict[str, Any]:
    return dict(msgspec.json.decode(files("uid2.packaging").joinpath("occlum_calls.json").read_bytes()))


@cache
def known_refusals() -> dict[str, tuple[int, str]]:
    """The refused calls that the image's programs may try: number and what happens instead, by name."""
    members = msgspec.json.decode(files("uid2.packaging").joinpath("refused_calls.json").read_bytes())
    return {name: (member["number"], member["fallback"]) for name, member in members.items()}


def answered_calls() -> dict[str, int]:
    """The calls that Occlum answers, by name."""
    return dict(_table()["answered"])


def call_name(number: int) -> str:
    """The name of a call; a refused clone is one without CLONE_VM."""
    for name, (known, _) in known_refusals().items():
        if known == number:
            return name
    return next((name for name, known in answered_calls().items() if known == number), f"call {number}")


def filter_program(*, trace: bool = False) -> bytes:
    """The program. What is refused, and the two requests of /dev/sgx, go to the listener; with `trace` every call."""
    table = _table()
    passed = NOTIFY if trace else ALLOW
    special = {table["clone"], table["socket"], table["ioctl"]}
    plain = sorted(set(table["answered"].values()) - special)
    parts = [
        _step(_LOAD, _ARCHITECTURE),
        *_unless(_EQUAL, _X86_64, KILL),
        _step(_LOAD, _NUMBER),
        *_when(_AT_LEAST, _X32, NOTIFY),
        *_when(_EQUAL, _SENDMSG, ALLOW),
        *_block(table["clone"], _FIRST, (_when(_ANY, CLONE_VM, passed),), NOTIFY),
        *_block(
            table["socket"], _FIRST, (_when(_EQUAL, family, passed) for family in table["socket_families"]), NOTIFY
        ),
        *_block(
            table["ioctl"],
            _SECOND,
            (_when(_EQUAL, request, NOTIFY) for request in (GET_DCAP_QUOTE_SIZE, GEN_DCAP_QUOTE)),
            passed,
        ),
    ]
    for first, last in _ranges(plain):
        parts += [_step(_AT_LEAST, first, 0, 2), _step(_ABOVE, last, 1, 0), _step(_RETURN, passed)]
    parts.append(_step(_RETURN, NOTIFY))
    return b"".join(parts)


def _step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, k)


def _when(test: int, k: int, action: int) -> tuple[bytes, bytes]:
    return _step(test, k, 0, 1), _step(_RETURN, action)


def _unless(test: int, k: int, action: int) -> tuple[bytes, bytes]:
    return _step(test, k, 1, 0), _step(_RETURN, action)


def _block(number: int, argument: int, tests: Iterable[tuple[bytes, bytes]], otherwise: int) -> Iterator[bytes]:
    """For one call: tests of the low half of an argument, then a verdict. Only that call enters the block."""
    inside = [_step(_LOAD, argument), *(step for test in tests for step in test), _step(_RETURN, otherwise)]
    yield _step(_EQUAL, number, 0, len(inside))
    yield from inside


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
