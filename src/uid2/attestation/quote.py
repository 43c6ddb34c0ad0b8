"""SGX quotes of version 3, parsed strictly (enclave chapter, 1.1 to 1.4 and 1.8).

    0     48    header
    48    384   report body of the enclave
    432   4     n, length of all that follows (u32)
    436   64    signature r‖s over bytes 0..431     500   64  attestation key x‖y
    564   384   report body of the quoting enclave   948  64  its signature by the PCK
    1012  2     length L of the authentication data  1014 L
    1014+L 2    certification data type   4 length M   M bytes

Integers are little-endian. A parsed field is a claim; `verify.verify_quote` makes it a fact.
"""

import struct
from dataclasses import dataclass, field
from typing import Final, NoReturn

from uid2.attestation.reasons import AttestationError, AttestationReason

HEADER_LENGTH: Final = 48
REPORT_LENGTH: Final = 384
SIGNED_LENGTH: Final = HEADER_LENGTH + REPORT_LENGTH
SIGNATURE_OFFSET: Final = SIGNED_LENGTH + 4
SHORTEST: Final = 1020
LARGEST: Final = 16 * 1024
AUTH_DATA_LENGTH: Final = 32
REPORT_DATA_LENGTH: Final = 64
INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
PCK_CHAIN: Final = 5

# ATTRIBUTES.FLAGS (enclave chapter, 1.3).
INIT: Final = 0x1
DEBUG: Final = 0x2
MODE64BIT: Final = 0x4
PROVISION_KEY: Final = 0x10
EINITTOKEN_KEY: Final = 0x20

_HEADER: Final = struct.Struct("<HHIHH16s20s")
_REPORT: Final = struct.Struct("<16sI12s16s16s32s32s32s32s64sHHH42s16s64s")


@dataclass(frozen=True, slots=True)
class QuoteHeader:
    version: int
    key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class ReportBody:
    """384 bytes: what the processor says of an enclave. `flags` and `xfrm` are the halves of ATTRIBUTES."""

    cpu_svn: bytes
    misc_select: int
    isv_ext_prod_id: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @property
    def flags(self) -> int:
        return int.from_bytes(self.attributes[:8], "little")

    @property
    def xfrm(self) -> int:
        return int.from_bytes(self.attributes[8:], "little")


@dataclass(frozen=True, slots=True)
class Quote:
    """`signed` are the 432 bytes under `signature`; `certification_data` is the PEM chain as it stands."""

    header: QuoteHeader
    report: ReportBody
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: ReportBody
    qe_report_signature: bytes = field(repr=False)
    auth_data: bytes = field(repr=False)
    certification_type: int
    certification_data: bytes = field(repr=False)


def parse_quote(data: bytes) -> Quote:
    """Raises AttestationError: another format, wrong lengths, bytes left over, reserved bytes in use."""
    if len(data) > LARGEST:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, f"the quote has {len(data)} bytes, more than {LARGEST}")
    if len(data) < SHORTEST:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, f"the quote has {len(data)} bytes, fewer than {SHORTEST}")
    header = _header(data)
    report = parse_report_body(data[HEADER_LENGTH:SIGNED_LENGTH])
    declared = int.from_bytes(data[SIGNED_LENGTH:SIGNATURE_OFFSET], "little")
    rest = len(data) - SIGNATURE_OFFSET
    if declared > rest:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, f"the signature part ends {declared - rest} bytes after the quote")
    if declared < rest:
        _refuse(AttestationReason.TRAILING_BYTES, f"{rest - declared} bytes follow the quote")
    auth_length = int.from_bytes(data[1012:1014], "little")
    if auth_length != AUTH_DATA_LENGTH:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, f"authentication data of {auth_length} bytes instead of 32")
    auth_end = 1014 + auth_length
    if auth_end + 6 > len(data):
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, "the certification data is cut off")
    kind, length = struct.unpack_from("<HI", data, auth_end)
    if length > len(data) - auth_end - 6:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, "the certification data ends after the quote")
    if length < len(data) - auth_end - 6:
        _refuse(AttestationReason.TRAILING_BYTES, "bytes follow the certification data")
    return Quote(
        header=header,
        report=report,
        signed=data[:SIGNED_LENGTH],
        signature=data[436:500],
        attestation_key=data[500:564],
        qe_report=parse_report_body(data[564:948]),
        qe_report_signature=data[948:1012],
        auth_data=data[1014:auth_end],
        certification_type=kind,
        certification_data=data[auth_end + 6 :],
    )


def parse_report_body(data: bytes) -> ReportBody:
    """384 bytes. Raises AttestationError: another length, reserved bytes that are not zero."""
    if len(data) != REPORT_LENGTH:
        _refuse(AttestationReason.BAD_QUOTE_FORMAT, f"a report body has 384 bytes, not {len(data)}")
    (cpu_svn, misc, reserved1, ext, attributes, mr_enclave, reserved2, mr_signer, reserved3) = _REPORT.unpack(data)[:9]
    config_id, prod_id, svn, config_svn, reserved4, family, report_data = _REPORT.unpack(data)[9:]
    if any(reserved1) or any(reserved2) or any(reserved3) or any(reserved4):
        _refuse(AttestationReason.RESERVED_BYTES, "reserved bytes of a report body are not zero")
    return ReportBody(
        cpu_svn, misc, ext, attributes, mr_enclave, mr_signer, config_id, prod_id, svn, config_svn, family, report_data
    )


def encode_report_body(report: ReportBody) -> bytes:
    """The 384 bytes that parse to `report`."""
    return _REPORT.pack(
        report.cpu_svn,
        report.misc_select,
        b"",
        report.isv_ext_prod_id,
        report.attributes,
        report.mr_enclave,
        b"",
        report.mr_signer,
        b"",
        report.config_id,
        report.isv_prod_id,
        report.isv_svn,
        report.config_svn,
        b"",
        report.isv_family_id,
        report.report_data,
    )


def encode_header(header: QuoteHeader) -> bytes:
    """48 bytes."""
    return _HEADER.pack(
        header.version,
        header.key_type,
        header.tee_type,
        header.qe_svn,
        header.pce_svn,
        header.qe_vendor,
        header.user_data,
    )


def encode_quote(quote: Quote) -> bytes:
    """The bytes that parse to `quote`."""
    signature_part = b"".join(
        (
            quote.signature,
            quote.attestation_key,
            encode_report_body(quote.qe_report),
            quote.qe_report_signature,
            len(quote.auth_data).to_bytes(2, "little"),
            quote.auth_data,
            struct.pack("<HI", quote.certification_type, len(quote.certification_data)),
            quote.certification_data,
        )
    )
    return quote.signed + len(signature_part).to_bytes(4, "little") + signature_part


def _header(data: bytes) -> QuoteHeader:
    header = QuoteHeader(*_HEADER.unpack_from(data))
    if (header.version, header.tee_type) != (3, 0):
        _refuse(
            AttestationReason.UNSUPPORTED_QUOTE,
            f"a quote of version {header.version} and TEE type {header.tee_type:#x}; only SGX, version 3, is accepted",
        )
    if header.key_type != 2:
        _refuse(AttestationReason.UNSUPPORTED_QUOTE, f"attestation key type {header.key_type} instead of ECDSA P-256")
    if header.qe_vendor != INTEL_QE_VENDOR:
        _refuse(AttestationReason.UNSUPPORTED_QUOTE, "the quoting enclave's vendor is not Intel")
    return header


def _refuse(reason: AttestationReason, message: str) -> NoReturn:
    raise AttestationError(reason, message)
