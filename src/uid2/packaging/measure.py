"""MRENCLAVE computed from an enclave library (enclave chapter, 5.3).

SHA-256 over what the processor is told at loading:

    ECREATE  "ECREATE\\0" · ssa_frame_size u32 · enclave_size u64 · 44 zeros
    EADD     "EADD" · 4 zeros · page offset u64 · flags u64 · 40 zeros           one a page
    EEXTEND  "EEXTEND\\0" · chunk offset u64 · 48 zeros · 256 bytes of the page  sixteen a measured page

Exact for synthetic libraries; for libraries of other tool chains experimental.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from uid2.packaging.enclave_elf import PAGE, PT_LOAD, EnclaveElf, Metadata, Segment
from uid2.packaging.sigstruct import EnclaveFileError

READ, WRITE, EXECUTE = 1, 2, 4
REGULAR: Final = 0x200
TCS: Final = 0x100
ADDED, EXTENDED = 1, 2
_CHUNK: Final = 256
_EADD: Final = struct.Struct("<8sQQ40x")
_EEXTEND: Final = struct.Struct("<8sQ48x")
_ENTRY: Final = struct.Struct("<HHIQIIQ")
_GROUP: Final = 0x1000
_RUN: Final = 1024
_TCS_ADDRESSES: Final = (16, 48, 56)


class Measurement:
    """The running digest, one call an instruction."""

    def __init__(self, ssa_frame_size: int, enclave_size: int) -> None:
        self._hash = hashlib.sha256(struct.pack("<8sIQ44x", b"ECREATE", ssa_frame_size, enclave_size))

    def add(self, offset: int, flags: int, pages: int = 1) -> None:
        ends = offset + pages * PAGE
        for begin in range(offset, ends, _RUN * PAGE):
            run = range(begin, min(begin + _RUN * PAGE, ends), PAGE)
            self._hash.update(b"".join(_EADD.pack(b"EADD", page, flags) for page in run))

    def extend(self, offset: int, page: bytes) -> None:
        for at in range(0, PAGE, _CHUNK):
            self._hash.update(_EEXTEND.pack(b"EEXTEND", offset + at) + page[at : at + _CHUNK])

    def digest(self) -> bytes:
        return self._hash.digest()


@dataclass(frozen=True, slots=True)
class LayoutEntry:
    """Pages beside the segments: heap, stacks, thread control. `content` repeats or fills, by `content_offset`."""

    attributes: int
    pages: int
    address: int
    content_size: int
    content_offset: int
    flags: int

    def encode(self) -> bytes:
        return _ENTRY.pack(
            1, self.attributes, self.pages, self.address, self.content_size, self.content_offset, self.flags
        )


def encode_group(entries: int, times: int, step: int) -> bytes:
    """Repeats the `entries` before it `times` more, each `step` bytes higher."""
    return struct.pack("<HHIQ16x", _GROUP, entries, times, step)


def measure_enclave(elf: EnclaveElf) -> bytes:
    """The 32 bytes of MRENCLAVE. Raises EnclaveFileError."""
    metadata = elf.metadata
    measurement = Measurement(metadata.ssa_frame_size, metadata.enclave_size)
    image = _patched(elf.data, metadata)
    relocated = elf.relocated_pages()
    for segment in elf.segments:
        if segment.kind == PT_LOAD:
            _check(metadata, segment.address, -(-segment.memory_size // PAGE))
            for address, page in _segment_pages(segment, image):
                flags = REGULAR | _permissions(segment) | (WRITE if address in relocated else 0)
                measurement.add(address, flags)
                measurement.extend(address, page)
    for entry, step in _layout(metadata.directory(1)):
        _measure_entry(measurement, metadata, entry, step)
    return measurement.digest()


def _measure_entry(measurement: Measurement, metadata: Metadata, entry: LayoutEntry, step: int) -> None:
    if not entry.attributes & ADDED or not entry.flags:
        return
    address = entry.address + step
    _check(metadata, address, entry.pages)
    if not entry.attributes & EXTENDED:
        measurement.add(address, entry.flags, entry.pages)
        return
    page = _content(metadata, entry, address)
    for at in range(address, address + entry.pages * PAGE, PAGE):
        measurement.add(at, entry.flags)
        measurement.extend(at, page)


def _content(metadata: Metadata, entry: LayoutEntry, address: int) -> bytes:
    if not entry.content_offset:
        return entry.content_size.to_bytes(4, "little") * (PAGE // 4)
    content = metadata.data[entry.content_offset : entry.content_offset + entry.content_size]
    if len(content) != entry.content_size or len(content) > PAGE:
        raise EnclaveFileError("enclave metadata: the content of a page lies outside")
    page = bytearray(content.ljust(PAGE, b"\0"))
    if entry.flags == TCS:
        for at in _TCS_ADDRESSES:
            value = int.from_bytes(page[at : at + 8], "little") + address
            page[at : at + 8] = (value % (1 << 64)).to_bytes(8, "little")
    return bytes(page)


def _layout(table: bytes) -> Iterator[tuple[LayoutEntry, int]]:
    if len(table) % _ENTRY.size:
        raise EnclaveFileError("enclave metadata: the layout is no list of 32-byte entries")
    before: list[LayoutEntry] = []
    for at in range(0, len(table), _ENTRY.size):
        kind, attributes, pages, address, size, offset, flags = _ENTRY.unpack_from(table, at)
        if kind & _GROUP:
            if not 0 < attributes <= len(before):
                raise EnclaveFileError("enclave metadata: a group repeats entries that are not there")
            for time in range(1, pages + 1):
                yield from ((entry, time * address) for entry in before[-attributes:])
        else:
            entry = LayoutEntry(attributes, pages, address, size, offset, flags)
            before.append(entry)
            yield entry, 0


def _patched(data: bytes, metadata: Metadata) -> bytes:
    patches = metadata.directory(0)
    if not patches:
        return data
    if len(patches) % 32:
        raise EnclaveFileError("enclave metadata: the patches are no list of 32-byte entries")
    image = bytearray(data)
    for target, source, size in struct.iter_unpack("<QII16x", patches):
        content = metadata.data[source : source + size]
        if len(content) != size or target + size > len(image):
            raise EnclaveFileError("enclave metadata: a patch lies outside")
        image[target : target + size] = content
    return bytes(image)


def _segment_pages(segment: Segment, image: bytes) -> Iterator[tuple[int, bytes]]:
    begins, ends = segment.address & -PAGE, segment.address + segment.memory_size
    front = segment.address - begins
    content = bytes(front) + image[segment.offset : segment.offset + segment.file_size]
    for address in range(begins, ends, PAGE):
        at = address - begins
        yield address, content[at : at + PAGE].ljust(PAGE, b"\0")


def _permissions(segment: Segment) -> int:
    return (
        (READ if segment.flags & 4 else 0) | (WRITE if segment.flags & 2 else 0) | (EXECUTE if segment.flags & 1 else 0)
    )


def _check(metadata: Metadata, address: int, pages: int) -> None:
    if address + pages * PAGE > metadata.enclave_size:
        raise EnclaveFileError("enclave library: pages lie outside the enclave")
