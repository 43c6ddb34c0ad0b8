"""`uid2 quote …` as people type it, over a simulated platform."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from uid2.attestation.binding import evidence_report_data, report_data_v1
from uid2.attestation.quote import parse_quote
from uid2.attestation.roots import INTEL_ROOT
from uid2.cli import quote_evidence
from uid2.cli.main import app
from uid2.cli.quote_evidence import EvidenceAnswer, EvidenceError
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ClientInputError, ConfigurationError, DependencyError, Uid2Error
from uid2.protocol.ids import EpochSeconds
from uid2.service.clock import SystemClock
from uid2.simtee.pcs import BASE, PcsApplication
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.quoting import QuotingService
from uid2.simtee.scenario import Scenario, SimulatedEnclave
from uid2.simtee.serving import serving

ENCLAVE = SimulatedEnclave(bytes(8) + b"\x22" * 24)
DIGEST = b"\x07" * 32
DCAP = Path(__file__).parents[2] / "vectors" / "dcap"


def now() -> EpochSeconds:
    return EpochSeconds(SystemClock().now_ms() // 1000)


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["quote", *words])
    if isinstance(result.exception, Uid2Error):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@dataclass(frozen=True)
class Bench:
    """A platform, its collateral over HTTP, and the files that an auditor has."""

    platform: SimulatedPlatform
    folder: Path
    collateral_url: str

    def record(self, **members: Any) -> str:
        file = self.folder / "identity.json"
        facts = {"mr_enclave": ENCLAVE.mr_enclave.hex(), "product_id": ENCLAVE.product_id, "svn": ENCLAVE.svn}
        file.write_text(json.dumps(facts | members))
        return str(file)

    def quote_file(self, enclave: SimulatedEnclave = ENCLAVE) -> str:
        file = self.folder / "quote.bin"
        file.write_bytes(self.platform.quote(bytes(range(64)), enclave))
        return str(file)

    def trust(self) -> tuple[str, ...]:
        root = self.folder / "root.pem"
        root.write_text(self.platform.root_pem)
        return ("--collateral-url", self.collateral_url, "--dangerous-root", str(root))


@pytest.fixture(scope="module")
def platform() -> Iterator[tuple[SimulatedPlatform, str]]:
    made = SimulatedPlatform.create(now(), Scenario())
    with serving(PcsApplication(made), "127.0.0.1") as url:
        yield made, url + BASE


@pytest.fixture
def bench(tmp_path: Path, platform: tuple[SimulatedPlatform, str]) -> Bench:
    return Bench(platform[0], tmp_path, platform[1])


@pytest.fixture
def operator(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What an operator answers; a member may lie."""

    def answers(report_data: Callable[[bytes], bytes] | None = None, **members: Any) -> None:
        def fetch(_url: str, nonce: bytes) -> EvidenceAnswer:
            data = evidence_report_data(nonce, DIGEST) if report_data is None else report_data(nonce)
            answer = EvidenceAnswer(bench.platform.quote(data, ENCLAVE), nonce, "0.1.0", "occlum", DIGEST, None)
            return replace(answer, **members)

        monkeypatch.setattr(quote_evidence, "fetch_evidence", fetch)

    return answers


def test_fresh_evidence_is_verified_in_ten_lines(bench: Bench, operator: Callable[..., None]) -> None:
    operator()
    lines = run("verify", "--url", "http://operator", "--record", bench.record(), *bench.trust()).splitlines()
    assert len(lines) == 10
    text = "\n".join(lines)
    assert "root=TEST" in text
    assert "GENUINE" not in text
    assert ENCLAVE.mr_enclave.hex() in text


@pytest.mark.parametrize(
    ("report_data", "members", "words"),
    [
        (lambda _: evidence_report_data(bytes(32), DIGEST), {}, "replay"),
        (lambda _: evidence_report_data(bytes(32), DIGEST), {"nonce": bytes(32)}, "another nonce"),
        (lambda _: report_data_v1(b"key"), {}, "from /attest"),
        (None, {"configuration_digest": bytes(32)}, "configuration"),
        (None, {"record_digest": "00" * 32}, "another record"),
        (None, {"quote": b"\x03\x00"}, "bad_quote_format"),
    ],
)
def test_evidence_that_deceives_is_refused(
    bench: Bench, operator: Callable[..., None], report_data: Any, members: dict[str, Any], words: str
) -> None:
    operator(report_data, **members)
    with pytest.raises(EvidenceError, match=words) as refusal:
        run("verify", "--url", "http://operator", "--record", bench.record(), *bench.trust())
    assert refusal.value.next_step


def test_another_record_is_refused(bench: Bench, operator: Callable[..., None]) -> None:
    operator()
    record = bench.record(mr_enclave="50" * 32)
    with pytest.raises(EvidenceError, match="not the record's"):
        run("verify", "--url", "http://operator", "--record", record, *bench.trust())


def test_a_test_root_counts_only_when_named(bench: Bench, operator: Callable[..., None]) -> None:
    operator()
    with pytest.raises(EvidenceError, match="test_root") as refusal:
        run("verify", "--url", "http://operator", "--record", bench.record())
    assert "--dangerous-root" in refusal.value.next_step


def test_a_quote_in_a_file_says_nothing_of_now(bench: Bench) -> None:
    lines = run("verify", bench.quote_file(), "--record", bench.record(), *bench.trust()).splitlines()
    assert len(lines) == 10
    assert any("NOT SHOWN" in line for line in lines)


def test_a_flipped_bit_is_refused(bench: Bench) -> None:
    file = Path(bench.quote_file())
    data = bytearray(file.read_bytes())
    data[112] ^= 1
    file.write_bytes(data)
    with pytest.raises(EvidenceError, match="bad_signature"):
        run("verify", str(file), "--record", bench.record(), *bench.trust())


def test_the_policy_of_a_file_counts(bench: Bench) -> None:
    policy = bench.folder / "policy.json"
    policy.write_text('{"minimum_evaluation_number": 1000000}')
    with pytest.raises(EvidenceError, match="tcb_rollback"):
        run("verify", bench.quote_file(), "--record", bench.record(), "--policy", str(policy), *bench.trust())


def test_collateral_that_is_not_there_leaves_the_verdict_open(bench: Bench, tmp_path: Path) -> None:
    root = bench.trust()[2:]
    with pytest.raises(DependencyError, match="collateral missing") as error:
        run("verify", bench.quote_file(), "--record", bench.record(), "--collateral-dir", str(tmp_path), *root)
    assert "--collateral-dir" in error.value.next_step


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "FILE and --url"),
        (("quote.bin", "--url", "http://operator"), "FILE and --url"),
        (("quote.bin",), "--record is missing"),
        (("quote.bin", "--record", "R", "--collateral-url", "https://c", "--collateral-dir", "d"), "one place"),
        (("quote.bin", "--record", "R", "--collateral-url", "http://c"), "no https"),
        (("quote.bin", "--record", "R", "--policy", "absent"), "--policy"),
        (("quote.bin", "--record", "R", "--dangerous-root", "absent"), "--dangerous-root"),
        (("--state", "absent"), "no stack is running"),
    ],
)
def test_options_that_do_not_fit_are_named(bench: Bench, words: tuple[str, ...], message: str) -> None:
    record = bench.record()
    with pytest.raises(ConfigurationError, match=message) as error:
        run("verify", *(record if word == "R" else word for word in words))
    assert error.value.next_step


def test_intels_root_is_no_test_root(bench: Bench) -> None:
    root = bench.folder / "intel.der"
    root.write_bytes(INTEL_ROOT.der)
    with pytest.raises(ConfigurationError, match="Intel's own"):
        run("verify", bench.quote_file(), "--record", bench.record(), "--dangerous-root", str(root))


def forms(data: bytes) -> list[bytes]:
    body = {
        "quote": encode_base64(data),
        "nonce": encode_base64(bytes(32)),
        "version": "0.1.0",
        "platform": "occlum",
        "configuration_digest": "00" * 32,
    }
    answer = json.dumps({"status": "success", "body": body}).encode()
    return [data, encode_base64(data).encode() + b"\n", data.hex().encode(), answer]


@pytest.mark.parametrize("form", range(4))
def test_show_explains_a_real_quote_in_every_form(tmp_path: Path, form: int) -> None:
    data = (DCAP / "sgx_quote.bin").read_bytes()
    file = tmp_path / "quote"
    file.write_bytes(forms(data)[form])
    text = run("show", str(file))
    quote = parse_quote(data)
    assert quote.report.mr_enclave.hex() in text
    assert quote.report.mr_signer.hex() in text
    assert "INIT" in text
    assert "Intel's root" in text
    assert text == CliRunner().invoke(app, ["inspect", "quote", str(file)]).stdout


def test_show_marks_a_simulated_quote(bench: Bench) -> None:
    text = run("show", bench.quote_file())
    assert "root=TEST" in text
    assert "a simulated enclave's" in text


@pytest.mark.parametrize("data", [b"", b"no quote", b"{}", b"\xff" * 2000])
def test_show_refuses_what_is_no_quote(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "quote"
    file.write_bytes(data)
    with pytest.raises(Uid2Error):
        run("show", str(file))


def test_make_asks_the_simulated_tee(bench: Bench) -> None:
    socket = bench.folder / "tee"
    service = QuotingService(socket, bench.platform, ENCLAVE)
    service.start()
    try:
        file = bench.folder / "made.bin"
        run("make", "ab" * 32, "--simulated-tee", str(socket), "--output", str(file))
        text = run("make", "ab" * 32, "--simulated-tee", str(socket))
    finally:
        service.stop()
    assert parse_quote(file.read_bytes()).report.report_data == b"\xab" * 32 + bytes(32)
    file.write_text(text)
    run("verify", str(file), "--record", bench.record(), *bench.trust())


def test_make_needs_a_tee() -> None:
    with pytest.raises(Uid2Error, match="no TEE here"):
        run("make", "00")


@pytest.mark.parametrize("text", ["", "zz", "00" * 65])
def test_make_names_report_data_that_do_not_fit(text: str) -> None:
    with pytest.raises(ClientInputError, match="1 to 64 bytes"):
        run("make", text)
