"""The SGX extension of a PCK certificate as DER (enclave chapter, 1.5): SEQUENCE of SEQUENCE {OID, value}."""

from typing import Final

OID_TEXT: Final = "1.2.840.113741.1.13.1"
_OID: Final = bytes.fromhex("2a864886f84d010d01")
_PPID: Final = bytes(16)


def encode_sgx_extension(
    *, cpu_svn: bytes, components: bytes, pce_svn: int, pce_id: bytes, fmspc: bytes, platform_authority: bool
) -> bytes:
    """`cpu_svn` and `components`: 16 bytes each; a Platform CA adds instance id and configuration flags."""
    tcb = b"".join(_entry((2, number), _integer(svn)) for number, svn in enumerate(components, 1))
    tcb += _entry((2, 17), _integer(pce_svn)) + _entry((2, 18), _octets(cpu_svn))
    entries = [
        _entry((1,), _octets(_PPID)),
        _entry((2,), _sequence(tcb)),
        _entry((3,), _octets(pce_id)),
        _entry((4,), _octets(fmspc)),
        _entry((5,), _value(0x0A, bytes([1 if platform_authority else 0]))),
    ]
    if platform_authority:
        flags = b"".join(_entry((7, number), _value(0x01, b"\xff")) for number in (1, 2, 3))
        entries += [_entry((6,), _octets(bytes(16))), _entry((7,), _sequence(flags))]
    return _sequence(b"".join(entries))


def _entry(suffix: tuple[int, ...], value: bytes) -> bytes:
    return _sequence(_value(0x06, _OID + bytes(suffix)) + value)


def _integer(number: int) -> bytes:
    return _value(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _octets(data: bytes) -> bytes:
    return _value(0x04, data)


def _sequence(content: bytes) -> bytes:
    return _value(0x30, content)


def _value(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
