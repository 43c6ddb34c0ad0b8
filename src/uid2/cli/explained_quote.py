"""An SGX quote, field by field, for `uid2 quote show` and `uid2 inspect quote` (enclave chapter, 1.1 to 1.5)."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from uid2.protocol.errors import ClientInputError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from uid2.attestation.quote import Quote, ReportBody

Section = tuple[str, list[tuple[str, object]]]

LARGEST_FILE: Final = 1 << 20
_VERSION_3: Final = b"\x03\x00"
_FLAGS: Final = (
    (0x1, "INIT"),
    (0x2, "DEBUG"),
    (0x4, "MODE64BIT"),
    (0x10, "PROVISION_KEY"),
    (0x20, "EINITTOKEN_KEY"),
    (0x80, "KSS"),
)


def read_quote(file: Path) -> bytes:
    """A quote as bytes, base64 or hexadecimal text, or inside an answer of /ops/evidence."""
    data = read_bounded(file)
    if data.startswith(_VERSION_3):
        return data
    return decode_quote(data, str(file))


def read_bounded(file: Path) -> bytes:
    """ClientInputError: the file cannot be read or is far too long for a quote."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ClientInputError(f"{file} cannot be read: {error.strerror}", next_step="check the path") from None
    if len(data) > LARGEST_FILE:
        raise ClientInputError(f"{file} has more than {LARGEST_FILE} bytes", next_step="name the file of a quote")
    return data


def decode_quote(data: bytes, where: str) -> bytes:
    """The quote of a text."""
    from uid2.cli.quote_evidence import parse_evidence_answer
    from uid2.protocol.encoding import decode_base64

    if data.lstrip().startswith(b"{"):
        return parse_evidence_answer(data).quote
    try:
        text = "".join(data.decode("ascii").split())
    except UnicodeDecodeError:
        return data
    for decode in (bytes.fromhex, decode_base64):
        try:
            if found := decode(text):
                return found
        except ValueError:
            continue
    raise ClientInputError(
        f"{where} holds no quote", next_step="give the bytes, base64, hexadecimal digits or an answer of /ops/evidence"
    )


def quote_sections(data: bytes) -> list[Section]:
    """What the quote claims. AttestationError: it has no readable form; nothing else is checked here."""
    from uid2.attestation.quote import parse_quote

    quote = parse_quote(data)
    header = quote.header
    return [
        (
            f"quote of {len(data)} bytes: claims, until `uid2 quote verify` has checked them",
            [
                ("version", header.version),
                ("attestation key", f"type {header.key_type}, ECDSA P-256"),
                ("TEE", f"{header.tee_type:#x}, SGX"),
                ("QE SVN, PCE SVN", f"{header.qe_svn}, {header.pce_svn}"),
                ("QE vendor", f"{header.qe_vendor.hex()} (Intel)"),
                ("user data", header.user_data.hex()),
            ],
        ),
        ("enclave (bytes 48 to 431)", _report_rows(quote.report)),
        (
            "signature (from byte 436)",
            [
                ("signature", f"{quote.signature.hex()} over bytes 0 to 431"),
                ("attestation key", quote.attestation_key.hex()),
                ("authentication data", quote.auth_data.hex()),
            ],
        ),
        ("quoting enclave (bytes 564 to 947)", _report_rows(quote.qe_report)),
        _certification(quote),
    ]


def _report_rows(report: "ReportBody") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("MRENCLAVE", report.mr_enclave.hex() + _simulated(report.mr_enclave)),
        ("MRSIGNER", report.mr_signer.hex()),
        ("product id, SVN", f"{report.isv_prod_id}, {report.isv_svn}"),
        ("attributes", f"{report.flags:#x}: {_flags(report.flags)}"),
        ("XFRM", f"{report.xfrm:#x}"),
        ("MISCSELECT", f"{report.misc_select:#x}"),
        ("CPUSVN", report.cpu_svn.hex()),
        ("report data", _halves(report.report_data)),
    ]
    rare = (
        ("config id", report.config_id),
        ("config SVN", report.config_svn.to_bytes(2, "big")),
        ("extended product id", report.isv_ext_prod_id),
        ("family id", report.isv_family_id),
    )
    rows += [(name, value.hex()) for name, value in rare if any(value)]
    return rows


def _flags(flags: int) -> str:
    known = [name for bit, name in _FLAGS if flags & bit]
    rest = flags & ~sum(bit for bit, _ in _FLAGS)
    if rest:
        known.append(f"unknown {rest:#x}")
    text = " ".join(known) or "none"
    return f"{text}; the host can read this enclave's memory" if "DEBUG" in known else text


def _simulated(mr_enclave: bytes) -> str:
    from uid2.attestation.claims import SIMULATED_PREFIX

    return " (a simulated enclave's)" if mr_enclave.hex().startswith(SIMULATED_PREFIX) else ""


def _halves(report_data: bytes) -> str:
    first, second = report_data[:32], report_data[32:]
    return f"{first.hex()}, then {second.hex() if any(second) else '32 zero bytes'}"


def _certification(quote: "Quote") -> Section:
    from uid2.attestation.pck import platform_key
    from uid2.attestation.reasons import AttestationError

    rows: list[tuple[str, object]] = [
        ("type", quote.certification_type),
        ("length", f"{len(quote.certification_data)} bytes"),
    ]
    try:
        key = platform_key(quote)
    except AttestationError as error:
        return ("certification data", [*rows, ("unusable", error.message)])
    rows += [
        ("FMSPC", key.fmspc),
        ("PCE id, PCE SVN", f"{key.pce_id}, {key.pce_svn}"),
        ("CPUSVN", key.cpu_svn.hex()),
        ("TCB components", " ".join(map(str, key.components))),
        ("issued by", f"{key.authority} CA"),
    ]
    for name, certificate in zip(("PCK certificate", "issuer", "root"), key.chain, strict=True):
        rows.append((name, certificate.subject.rfc4514_string()))
        rows.append(("  valid", f"{certificate.not_valid_before_utc:%F} to {certificate.not_valid_after_utc:%F}"))
    rows.append(("  kind", _root_kind(key.chain[-1])))
    return ("certification data", rows)


def _root_kind(root: "Certificate") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    from uid2.attestation.roots import INTEL_ROOT, TEST_MARK

    if root.public_bytes(Encoding.DER) == INTEL_ROOT.der:
        return "Intel's root"
    if TEST_MARK in root.subject.rfc4514_string():
        return "root=TEST: of a simulated platform, which proves nothing"
    return "NOT Intel's root, whatever its name says"
