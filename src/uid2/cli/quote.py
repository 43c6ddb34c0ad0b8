"""`uid2 quote …`: make a quote, explain one, and verify one or the evidence of a running operator."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uid2.protocol.errors import ClientInputError, ConfigurationError

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource
    from uid2.cli.quote_trust import StackAddresses

app = typer.Typer(help="Make, explain and verify quotes of enclaves.", no_args_is_help=True)

StateOption = Annotated[
    Path | None, typer.Option("--state", help="State folder of a running `uid2 up`: what is not given comes from it.")
]


@app.command("make")
def make(
    report_data: Annotated[str, typer.Argument(help="64 bytes in hexadecimal; zeros follow a shorter text.")],
    simulated_tee: Annotated[str | None, typer.Option(help="Socket of a simulated TEE. Default: the TEE here.")] = None,
    state: StateOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the bytes to this file instead of base64 here.")] = None,
) -> None:
    """Make a quote of the enclave that this command runs in."""
    from uid2.protocol.encoding import encode_base64

    data = _report_data(report_data)
    if simulated_tee is None and state is not None:
        simulated_tee = _stack(state).socket
    quote = _source(simulated_tee).quote(data)
    if output is None:
        print(encode_base64(quote))
        return
    try:
        output.write_bytes(quote)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}", next_step="check the path") from None


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="A quote: bytes, base64, hexadecimal, or an answer of /ops/evidence.")],
) -> None:
    """Explain a quote field by field. Nothing is verified."""
    from uid2.cli.explained_quote import quote_sections, read_quote
    from uid2.cli.layout import section

    print("\n".join(section(title, rows) for title, rows in quote_sections(read_quote(file))), end="")


@app.command("verify")
def verify(
    file: Annotated[Path | None, typer.Argument(help="A quote. Or give --url: fresh evidence of an operator.")] = None,
    url: Annotated[str | None, typer.Option(help="The ops listener of an operator.", show_default=False)] = None,
    record: Annotated[
        Path | None, typer.Option(help="identity.json of the build that should run there.", show_default=False)
    ] = None,
    collateral_url: Annotated[str | None, typer.Option(help="A PCCS. Default: Intel's PCS.")] = None,
    collateral_dir: Annotated[Path | None, typer.Option(help="Folder with collateral; nothing is fetched.")] = None,
    policy: Annotated[Path | None, typer.Option(help="File with an attestation_policy.")] = None,
    dangerous_root: Annotated[
        Path | None, typer.Option(help="Trust this TEST root instead of Intel's. Proves nothing about hardware.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Does this operator, or this quote, come from the recorded enclave on a genuine platform?"""
    from uid2.cli import quote_evidence
    from uid2.cli.explained_quote import read_quote
    from uid2.cli.quote_trust import trust_of, verified_quote
    from uid2.protocol.ids import EpochSeconds

    if state is not None:
        stack = _stack(state)
        url = stack.ops_url if url is None and file is None else url
        record = record or stack.record
        dangerous_root = dangerous_root or stack.root
        collateral_url = stack.collateral_url if collateral_url is None and collateral_dir is None else collateral_url
    if (file is None) == (url is None):
        raise ConfigurationError("one of FILE and --url is needed", next_step="name a quote, or an operator's address")
    if record is None:
        raise ConfigurationError(
            "--record is missing", next_step="give the identity.json that was published with the build"
        )
    recorded = quote_evidence.read_identity_record(record)
    trust = trust_of(collateral_url, collateral_dir, dangerous_root, policy)
    now = EpochSeconds(int(time.time()))
    if file is not None:
        verified = verified_quote(read_quote(file), trust, now)
        quote_evidence.check_identity(verified, recorded)
        lines = quote_evidence.file_verdict_lines(verified, recorded)
    else:
        assert url is not None
        nonce = os.urandom(quote_evidence.NONCE_LENGTH)
        answer = quote_evidence.fetch_evidence(url, nonce)
        verified = verified_quote(answer.quote, trust, now)
        quote_evidence.check_evidence(verified, answer, nonce, recorded)
        lines = quote_evidence.verdict_lines(verified, answer, recorded)
    print("\n".join(lines))


def _stack(state: Path) -> "StackAddresses":
    from uid2.cli.quote_trust import stack_addresses

    return stack_addresses(state)


def _source(socket: str | None) -> "QuoteSource":
    if socket is None:
        from uid2.attestation.tee.probe import find_quote_source

        return find_quote_source()
    # Imported on demand: the enclave image has no simulated TEE.
    from uid2.simtee.client import SocketQuoteSource

    print("simulated TEE: this quote proves nothing (root=TEST)", file=sys.stderr)
    return SocketQuoteSource(socket)


def _report_data(text: str) -> bytes:
    from uid2.attestation.quote import REPORT_DATA_LENGTH

    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not 0 < len(data) <= REPORT_DATA_LENGTH:
        raise ClientInputError(
            "report data are 1 to 64 bytes in hexadecimal",
            next_step="give the digest of what the quote shall vouch for, 64 digits for a SHA-256",
        )
    return data.ljust(REPORT_DATA_LENGTH, b"\0")
