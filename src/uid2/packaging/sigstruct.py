"""SIGSTRUCT: what the signer of an enclave asserts, in 1,808 bytes (enclave chapter, 5.1).

0    header 12 · type 4 · vendor 4 · date 4 · header2 16 · swdefined 4 · zero 84      128 bytes, signed
128  modulus 384 · exponent 4 · signature 384                                          little-endian numbers
900  miscselect 4 · miscmask 4 · zero 4 · family 16 · attributes 16 · mask 16
     mrenclave 32 · zero 16 · extended product 16 · product 2 · svn 2                  128 bytes, signed
1028 zero 12 · q1 384 · q2 384
"""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from uid2.protocol.errors import Uid2Error

LENGTH: Final = 1808
EXPONENT: Final = 3
KEY_BITS: Final = 3072
DEBUG: Final = 2
_HEADER: Final = bytes.fromhex("06000000e100000000000100")
_HEADER2: Final = bytes.fromhex("01010000600000006000000001000000")
_NUMBER: Final = KEY_BITS // 8
_FRONT: Final = struct.Struct("<12sIII16sI84s")
_BODY: Final = struct.Struct("<II4s16sQQQQ32s16s16sHH")
_INTEL_VENDOR: Final = 0x8086
_NEXT_STEP: Final = "take the file anew from the place that published it, or build it again"


class EnclaveFileError(Uid2Error):
    """A file that should be an enclave, or its signature, is wrong."""

    code = "enclave_file"

    def __init__(self, message: str, *, next_step: str = _NEXT_STEP) -> None:
        super().__init__(message, next_step=next_step)


@dataclass(frozen=True, slots=True)
class EnclaveAssertion:
    """The signed fields. `date` is yyyymmdd; flags and masks are the 64-bit halves of ATTRIBUTES."""

    mr_enclave: bytes
    product_id: int
    svn: int
    date: str
    flags: int = 0x4
    xfrm: int = 0x3
    flags_mask: int = 0xFFFFFFFFFFFFFFFF
    xfrm_mask: int = 0xFFFFFFFFFFFFFF1B
    misc_select: int = 0
    misc_mask: int = 0
    family_id: bytes = bytes(16)
    extended_product_id: bytes = bytes(16)
    vendor: int = 0
    debug_signed: bool = False

    @property
    def debug_refused(self) -> bool:
        """Whether the processor refuses to launch this enclave with a debugger's view into it."""
        return not self.flags & DEBUG and bool(self.flags_mask & DEBUG)


@dataclass(frozen=True, slots=True)
class Sigstruct:
    assertion: EnclaveAssertion
    modulus: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    q1: bytes = field(repr=False)
    q2: bytes = field(repr=False)
    signed: bytes = field(repr=False)

    @property
    def mr_signer(self) -> bytes:
        return hashlib.sha256(self.modulus).digest()


def parse_sigstruct(data: bytes) -> Sigstruct:
    """The structure; every fixed byte is checked. Raises EnclaveFileError."""
    if len(data) != LENGTH:
        raise EnclaveFileError(f"SIGSTRUCT has {LENGTH} bytes, not {len(data)}")
    header, kind, vendor, date, header2, _defined, zeros = _FRONT.unpack_from(data)
    (
        misc_select,
        misc_mask,
        zero1,
        family,
        flags,
        xfrm,
        flags_mask,
        xfrm_mask,
        mr_enclave,
        zero2,
        extended,
        product,
        svn,
    ) = _BODY.unpack_from(data, 900)
    for name, good in (
        ("header", header == _HEADER and header2 == _HEADER2),
        ("type", kind in (0, 1 << 31)),
        ("vendor", vendor in (0, _INTEL_VENDOR)),
        ("reserved bytes", not any(zeros + zero1 + zero2 + data[1028:1040])),
        ("exponent", int.from_bytes(data[512:516], "little") == EXPONENT),
    ):
        if not good:
            raise EnclaveFileError(f"SIGSTRUCT: wrong {name}")
    return Sigstruct(
        assertion=EnclaveAssertion(
            mr_enclave=mr_enclave,
            product_id=product,
            svn=svn,
            date=_date(date),
            flags=flags,
            xfrm=xfrm,
            flags_mask=flags_mask,
            xfrm_mask=xfrm_mask,
            misc_select=misc_select,
            misc_mask=misc_mask,
            family_id=family,
            extended_product_id=extended,
            vendor=vendor,
            debug_signed=bool(kind),
        ),
        modulus=data[128:512],
        signature=data[516:900],
        q1=data[1040:1424],
        q2=data[1424:1808],
        signed=data[:128] + data[900:1028],
    )


def verify_sigstruct(sigstruct: Sigstruct) -> None:
    """Checks the signature and both quotients that the processor uses. Raises EnclaveFileError."""
    modulus, signature = _number(sigstruct.modulus), _number(sigstruct.signature)
    if modulus.bit_length() != KEY_BITS or modulus % 2 == 0:
        raise EnclaveFileError(f"SIGSTRUCT: the signer's key has not {KEY_BITS} bits")
    if signature >= modulus:
        raise EnclaveFileError("SIGSTRUCT: the signature is no number below the modulus")
    try:
        rsa.RSAPublicNumbers(EXPONENT, modulus).public_key().verify(
            sigstruct.signature[::-1], sigstruct.signed, padding.PKCS1v15(), SHA256()
        )
    except (InvalidSignature, ValueError):
        raise EnclaveFileError("SIGSTRUCT: the signature does not match the signed fields") from None
    if (_number(sigstruct.q1), _number(sigstruct.q2)) != _quotients(signature, modulus):
        raise EnclaveFileError("SIGSTRUCT: Q1 or Q2 does not belong to the signature")


def sign_sigstruct(assertion: EnclaveAssertion, key: rsa.RSAPrivateKey) -> bytes:
    """The 1,808 bytes. The key has 3,072 bits and exponent 3; the result is the same at every call."""
    public = key.public_key().public_numbers()
    if public.e != EXPONENT or public.n.bit_length() != KEY_BITS:
        raise EnclaveFileError(
            f"an enclave is signed with an RSA key of {KEY_BITS} bits and exponent {EXPONENT}",
            next_step=f"openssl genrsa -{EXPONENT} -out key.pem {KEY_BITS}",
        )
    if len(assertion.mr_enclave) != 32 or len(assertion.family_id) != 16 or len(assertion.extended_product_id) != 16:
        raise ValueError("MRENCLAVE has 32 bytes, the identifiers 16")
    kind = 1 << 31 if assertion.debug_signed else 0
    date = int(_checked_date(assertion.date), 16)
    front = _FRONT.pack(_HEADER, kind, assertion.vendor, date, _HEADER2, 0, bytes(84))
    body = _BODY.pack(
        assertion.misc_select,
        assertion.misc_mask,
        bytes(4),
        assertion.family_id,
        assertion.flags,
        assertion.xfrm,
        assertion.flags_mask,
        assertion.xfrm_mask,
        assertion.mr_enclave,
        bytes(16),
        assertion.extended_product_id,
        assertion.product_id,
        assertion.svn,
    )
    signature = key.sign(front + body, padding.PKCS1v15(), SHA256())[::-1]
    q1, q2 = _quotients(_number(signature), public.n)
    numbers = (_bytes(public.n), EXPONENT.to_bytes(4, "little"), signature)
    return b"".join((front, *numbers, body, bytes(12), _bytes(q1), _bytes(q2)))


def _quotients(signature: int, modulus: int) -> tuple[int, int]:
    square = signature * signature
    return square // modulus, square % modulus * signature // modulus


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bytes(number: int) -> bytes:
    return number.to_bytes(_NUMBER, "little")


def _date(coded: int) -> str:
    return _checked_date(f"{coded:08x}")


def _checked_date(text: str) -> str:
    good = len(text) == 8 and text.isascii() and text.isdigit()
    if not good or not 1 <= int(text[4:6]) <= 12 or not 1 <= int(text[6:]) <= 31:
        raise EnclaveFileError("SIGSTRUCT: the date is not yyyymmdd")
    return text
