"""Synthetic signed enclave libraries: the place of Occlum's library where its tool chain is not (design, section 7).

They have the format of real ones (segments, metadata, layout, SIGSTRUCT) and run nowhere. Their MRENCLAVE is the one of
5.3 with its first eight bytes zero, which no digest of a real enclave has.
"""

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from uid2.packaging.enclave_elf import (
    DIRECTORIES_AT,
    MAGIC,
    NOTE_NAME,
    NOTE_SECTION,
    PAGE,
    SIGSTRUCT_AT,
    parse_enclave_elf,
)
from uid2.packaging.measure import (
    ADDED,
    EXTENDED,
    READ,
    REGULAR,
    TCS,
    WRITE,
    LayoutEntry,
    encode_group,
    measure_enclave,
)
from uid2.packaging.sigstruct import LENGTH as SIGSTRUCT_LENGTH
from uid2.packaging.sigstruct import EnclaveAssertion, sign_sigstruct

SIMULATED_PREFIX: Final = bytes(8)
NOTICE: Final = b"UID2 SYNTHETIC ENCLAVE: SIMULATED, runs nowhere, protects nothing\n\0"
_VERSION: Final = (2 << 32) | 4
_SSA_PAGES: Final = 1
_STACK_FILL: Final = 0xCCCCCCCC
_TEMPLATE: Final = struct.Struct("<QQQIIQQQQII")
_TEMPLATE_AT: Final = DIRECTORIES_AT + 32
_ALLOWED_DEBUG_MASK: Final = 0xFFFFFFFFFFFFFFFD
_WORST_MASK: Final = 0xFFFFFFFFFFFFFFFF
_SEGMENTS: Final = 4


@dataclass(frozen=True, slots=True)
class SyntheticEnclave:
    """What the identity covers. `content` is the digest of the image and of Occlum.json; sizes are in bytes."""

    content: bytes
    kernel_heap: int
    user_space: int
    threads: int
    thread_stack: int
    product_id: int
    svn: int
    date: str
    debuggable: bool = False


def simulated_measurement(elf_data: bytes) -> bytes:
    """The MRENCLAVE of a synthetic library. Raises EnclaveFileError."""
    return SIMULATED_PREFIX + measure_enclave(parse_enclave_elf(elf_data))[len(SIMULATED_PREFIX) :]


def is_synthetic(elf_data: bytes) -> bool:
    """Whether the library says of itself that it is synthetic; the notice is measured."""
    return elf_data[PAGE : PAGE + len(NOTICE)] == NOTICE


def synthetic_library(enclave: SyntheticEnclave, key: RSAPrivateKey) -> bytes:
    """The signed library; the same bytes for the same arguments."""
    if len(enclave.content) != 32:
        raise ValueError("the content is a digest of 32 bytes")
    unsigned = _elf(enclave, bytes(SIGSTRUCT_LENGTH))
    assertion = EnclaveAssertion(
        mr_enclave=simulated_measurement(unsigned),
        product_id=enclave.product_id,
        svn=enclave.svn,
        date=enclave.date,
        flags_mask=_ALLOWED_DEBUG_MASK if enclave.debuggable else _WORST_MASK,
    )
    return _elf(enclave, sign_sigstruct(assertion, key))


def _elf(enclave: SyntheticEnclave, sigstruct: bytes) -> bytes:
    """Headers; page 1: notice, content, relocation; page 2: code; page 3: data, the dynamic table; then metadata."""
    relocation = struct.pack("<QQq", 2 * PAGE, 8, 0)
    readable = NOTICE + enclave.content + struct.pack("<Q", enclave.user_space)
    relocation_at = PAGE + -(-len(readable) // 8) * 8
    readable = readable.ljust(relocation_at - PAGE, b"\0") + relocation
    dynamic = struct.pack("<qQqQqQ", 7, relocation_at, 8, len(relocation), 0, 0)
    metadata = _metadata(enclave, sigstruct)
    note = struct.pack("<III", len(NOTE_NAME), len(metadata), 1) + NOTE_NAME + metadata
    names = b"\0" + NOTE_SECTION.encode() + b"\0.shstrtab\0"
    note_at = 3 * PAGE + len(dynamic)
    names_at = note_at + len(note)
    table_at = -(-(names_at + len(names)) // 8) * 8
    program = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, memory, PAGE)
        for kind, flags, at, size, memory in (
            (1, 4, PAGE, len(readable), len(readable)),
            (1, 5, 2 * PAGE, PAGE, PAGE),
            (1, 6, 3 * PAGE, len(dynamic), 2 * PAGE),
            (2, 6, 3 * PAGE, len(dynamic), len(dynamic)),
        )
    )
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 2 * PAGE, 64, table_at, 0, 64, 56, _SEGMENTS, 64, 3, 2
    )
    sections = bytes(64) + _section(1, 7, note_at, len(note)) + _section(2 + len(NOTE_SECTION), 3, names_at, len(names))
    parts = (
        (header + program).ljust(PAGE, b"\0"),
        readable.ljust(PAGE, b"\0"),
        b"\xf4" * PAGE,  # hlt: it stops at once, wherever someone jumps to
        dynamic,
        note,
        names.ljust(table_at - names_at, b"\0"),
        sections,
    )
    return b"".join(parts)


def _section(name: int, kind: int, at: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0)


def _metadata(enclave: SyntheticEnclave, sigstruct: bytes) -> bytes:
    template = _TEMPLATE.pack(0, 0, PAGE, 0, 2, 0, 0, 0, 0, 0xFFF, 0xFFF)
    layout, ends = _layout(enclave, len(template))
    size = _TEMPLATE_AT + len(template) + len(layout)
    enclave_size = 1 << max(ends - 1, PAGE).bit_length()
    head = MAGIC + struct.pack("<QIIIIIIQQQ", _VERSION, size, 1, _SSA_PAGES, 0, 0, 0, enclave_size, 4, 3)
    directories = struct.pack("<IIIIQQ", 0, 0, _TEMPLATE_AT + len(template), len(layout), 0, 0)
    metadata = head + sigstruct + directories + template + layout
    assert len(head) == SIGSTRUCT_AT
    assert len(metadata) == size
    return metadata


def _layout(enclave: SyntheticEnclave, template_size: int) -> tuple[bytes, int]:
    """Kernel heap, one context a thread (guard, stack, thread control, save areas), user space; and where it ends."""
    data = REGULAR | READ | WRITE
    heap_at = 5 * PAGE
    heap, user, stack = (_pages(size) for size in (enclave.kernel_heap, enclave.user_space, enclave.thread_stack))
    guard_at = heap_at + heap * PAGE
    stack_at = guard_at + PAGE
    tcs_at = stack_at + stack * PAGE
    context = 1 + stack + 1 + 2 * _SSA_PAGES
    user_at = guard_at + context * enclave.threads * PAGE
    entries = [
        LayoutEntry(ADDED, heap, heap_at, 0, 0, data).encode(),
        LayoutEntry(0, 1, guard_at, 0, 0, 0).encode(),
        LayoutEntry(ADDED | EXTENDED, stack, stack_at, _STACK_FILL, 0, data).encode(),
        LayoutEntry(ADDED | EXTENDED, 1, tcs_at, template_size, _TEMPLATE_AT, TCS).encode(),
        LayoutEntry(ADDED | EXTENDED, 2 * _SSA_PAGES, tcs_at + PAGE, 0, 0, data).encode(),
    ]
    if enclave.threads > 1:
        entries.append(encode_group(4, enclave.threads - 1, context * PAGE))
    entries.append(LayoutEntry(ADDED, user, user_at, 0, 0, data).encode())
    return b"".join(entries), user_at + user * PAGE


def _pages(size: int) -> int:
    return -(-size // PAGE)
