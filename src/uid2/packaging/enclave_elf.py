"""The parts of a signed enclave library that its identity rests on (enclave chapter, 5.2).

Metadata stands 25 bytes into the section `.note.sgxmeta`; offsets in it count from its own beginning:

    0  magic 8 · version 8 · size 4 · tcs_policy 4 · ssa_frame_size 4 · max_save 4 · miscselect 4 · tcs_min_pool 4
    40 enclave_size 8 · attributes 16 · SIGSTRUCT 1808
    1872 directories {offset u32, size u32}: patches, layout, …
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from uid2.packaging.sigstruct import LENGTH as SIGSTRUCT_LENGTH
from uid2.packaging.sigstruct import EnclaveFileError

MAGIC: Final = bytes.fromhex("4c0e5d639402a886")
NOTE_SECTION: Final = ".note.sgxmeta"
NOTE_NAME: Final = b"sgx_metadata\0"
SIGSTRUCT_AT: Final = 64
DIRECTORIES_AT: Final = SIGSTRUCT_AT + SIGSTRUCT_LENGTH
PAGE: Final = 4096
PT_LOAD: Final = 1
PT_DYNAMIC: Final = 2
LARGEST_ENCLAVE: Final = 1 << 38
LARGEST_SEGMENTS: Final = 1 << 30
_MOST_HEADERS: Final = 4096
_DT_JMPREL, _DT_PLTRELSZ, _DT_RELA, _DT_RELASZ = 23, 2, 7, 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header. `flags` are the ELF's: 1 executable, 2 writable, 4 readable."""

    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """One metadata block, the bytes from its magic on."""

    version: tuple[int, int]
    tcs_policy: int
    ssa_frame_size: int
    enclave_size: int
    data: bytes = field(repr=False)

    @property
    def sigstruct(self) -> bytes:
        return self.data[SIGSTRUCT_AT:DIRECTORIES_AT]

    def directory(self, number: int) -> bytes:
        """The content of directory 0 (patches) or 1 (layout)."""
        offset, size = struct.unpack_from("<II", self.data, DIRECTORIES_AT + 8 * number)
        if size and (offset < DIRECTORIES_AT + 16 or offset + size > len(self.data)):
            raise EnclaveFileError("enclave metadata: a directory points outside")
        return self.data[offset : offset + size] if size else b""


@dataclass(frozen=True, slots=True)
class EnclaveElf:
    segments: tuple[Segment, ...]
    blocks: tuple[Metadata, ...]
    data: bytes = field(repr=False)

    @property
    def metadata(self) -> Metadata:
        """The block of the highest version; the others are for older loaders."""
        return max(self.blocks, key=lambda block: block.version)

    def relocated_pages(self) -> frozenset[int]:
        """Addresses of the pages that the loader writes relocations into."""
        return frozenset(address & -PAGE for address in self._relocations())

    def _relocations(self) -> Iterator[int]:
        for segment in self.segments:
            if segment.kind != PT_DYNAMIC:
                continue
            dynamic = self.data[segment.offset : segment.offset + segment.file_size]
            tags = dict(struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]))
            for start, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
                if tags.get(start) and tags.get(size):
                    table = self._at(tags[start], tags[size])
                    yield from (entry[0] for entry in struct.iter_unpack("<QQq", table[: len(table) // 24 * 24]))

    def _at(self, address: int, size: int) -> bytes:
        for segment in self.segments:
            inside = address - segment.address
            if segment.kind == PT_LOAD and inside >= 0 and inside + size <= segment.file_size:
                return self.data[segment.offset + inside : segment.offset + inside + size]
        raise EnclaveFileError("enclave library: relocations lie outside its segments")


def parse_enclave_elf(data: bytes) -> EnclaveElf:
    """A signed enclave library. Raises EnclaveFileError for anything that is none."""
    if data[:7] != b"\x7fELF\x02\x01\x01":
        raise EnclaveFileError("not a 64-bit little-endian ELF file")
    try:
        segments = tuple(_segments(data))
        blocks = tuple(_blocks(data))
    except (struct.error, OverflowError):
        raise EnclaveFileError("enclave library: cut short") from None
    if not blocks:
        raise EnclaveFileError(
            "enclave library: no SGX metadata: it is not signed", next_step="sign it: occlum build --sign-key KEY.pem"
        )
    return EnclaveElf(segments, blocks, data)


def _segments(data: bytes) -> Iterator[Segment]:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    if count > _MOST_HEADERS or (count and size != 56):
        raise EnclaveFileError("enclave library: unusable program headers")
    for number in range(count):
        kind, flags, offset, address, _, file_size, memory_size, _ = struct.unpack_from(
            "<IIQQQQQQ", data, table + 56 * number
        )
        if offset + file_size > len(data) or file_size > memory_size or address + memory_size > LARGEST_SEGMENTS:
            raise EnclaveFileError(f"enclave library: segment {number} lies outside the file")
        yield Segment(kind, flags, offset, address, file_size, memory_size)


def _blocks(data: bytes) -> Iterator[Metadata]:
    section = _note_section(data)
    begins = 0 if section is None else section[0]
    ends = len(data) if section is None else sum(section)
    at = data.find(MAGIC, begins, ends)
    while at >= 0:
        major_minor, size, tcs_policy, ssa = struct.unpack_from("<QIII", data, at + 8)
        (enclave_size,) = struct.unpack_from("<Q", data, at + 40)
        if size < DIRECTORIES_AT + 16 or at + size > ends:
            raise EnclaveFileError("enclave metadata: cut short")
        if not enclave_size or enclave_size & (enclave_size - 1) or enclave_size > LARGEST_ENCLAVE:
            raise EnclaveFileError("enclave metadata: the size of the enclave is no power of two, or too large")
        version = (major_minor >> 32, major_minor & 0xFFFFFFFF)
        yield Metadata(version, tcs_policy, ssa, enclave_size, data[at : at + size])
        at = data.find(MAGIC, at + size, ends)


def _note_section(data: bytes) -> tuple[int, int] | None:
    """Offset and size of `.note.sgxmeta`, if the file still has its section headers."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    if not table or not count:
        return None
    if count > _MOST_HEADERS or size != 64 or names >= count:
        raise EnclaveFileError("enclave library: unusable section headers")
    (names_at,) = struct.unpack_from("<Q", data, table + 64 * names + 24)
    for number in range(count):
        name, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", data, table + 64 * number)
        wanted = NOTE_SECTION.encode() + b"\0"
        if data[names_at + name : names_at + name + len(wanted)] == wanted:
            if offset + length > len(data):
                raise EnclaveFileError("enclave library: cut short")
            return offset, length
    return None
