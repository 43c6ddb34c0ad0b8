"""The sandbox: the filter is on, /dev/sgx answers, the environment is the allowed one (design, section 7)."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from uid2.attestation.quote import parse_quote
from uid2.packaging.occlum_config import enclave_sizes, occlum_config
from uid2.packaging.sandbox import (
    SandboxedProgram,
    SandboxReport,
    occlum_words,
    run_sandboxed,
    sandbox_command,
    sandbox_environment,
    size_of,
)
from uid2.packaging.seccomp_filter import answered_calls, filter_program, known_refusals
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.scenario import SimulatedEnclave

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
PLATFORM = SimulatedPlatform.create(1_760_000_000)  # type: ignore[arg-type]  # epoch seconds
ENCLAVE = SimulatedEnclave(bytes(8) + bytes(range(24)))


def quote_of(report_data: bytes) -> bytes:
    return PLATFORM.quote(report_data, ENCLAVE)


def program(source: str, *, trace: bool = False, **environment: str) -> SandboxedProgram:
    """The machine's own tree as the root: whatever runs here runs inside, as far as the filter lets it."""
    settings: dict[str, Any] = occlum_config(enclave_sizes(1000, 1000, {}))
    settings["entry_points"] = [sys.executable]
    return SandboxedProgram(
        root=Path("/"),
        settings=settings,
        command=(sys.executable, "-I", "-c", source),
        host_environment=environment,
        interpreter=sys.executable,
        trace=trace,
        writable=("/mnt",),
    )


def run(source: str, capfd: pytest.CaptureFixture[str], **options: Any) -> tuple[SandboxReport, Any]:
    report = run_sandboxed(program(source, **options), quote_of)
    output = capfd.readouterr()
    assert report.exit_code == 0, output.err
    return report, json.loads(output.out)


PROBE = """
import json, os, resource, errno, ctypes
result = {}
for name, call in {
    "fork": lambda: os.fork(),
    "memfd_create": lambda: os.memfd_create("x"),
    "getrusage": lambda: resource.getrusage(resource.RUSAGE_SELF),
    "setsid": lambda: os.setsid(),
}.items():
    try:
        value = call()
        if name == "fork" and value == 0:
            os._exit(0)
        result[name] = "worked"
    except OSError as error:
        result[name] = errno.errorcode[error.errno]
print(json.dumps(result))
"""


@needs_bubblewrap
@pytest.mark.parametrize("trace", [False, True])
def test_the_filter_is_on(capfd: pytest.CaptureFixture[str], trace: bool) -> None:
    report, result = run(PROBE, capfd, trace=trace)
    assert result == dict.fromkeys(("fork", "memfd_create", "getrusage", "setsid"), "ENOSYS")
    assert {"clone without CLONE_VM", "memfd_create", "getrusage", "setsid"} <= set(report.refused)
    assert report.unexpected == ()
    assert bool(report.used) is trace


@needs_bubblewrap
def test_threads_sockets_and_started_programs_work(capfd: pytest.CaptureFixture[str]) -> None:
    source = """
import json, socket, subprocess, sys, threading, asyncio
done = []
threads = [threading.Thread(target=done.append, args=(n,)) for n in range(5)]
[t.start() for t in threads]; [t.join() for t in threads]
code = subprocess.run([sys.executable, "-I", "-c", "raise SystemExit(7)"]).returncode
families = []
for family in (1, 2, 10, 16, 17, 40):
    try:
        socket.socket(family, socket.SOCK_STREAM if family != 16 else socket.SOCK_RAW).close()
        families.append(family)
    except OSError as error:
        families.append(-error.errno)
async def later():
    await asyncio.sleep(0.01)
    return "awaited"
print(json.dumps([sorted(done), code, families, asyncio.run(later())]))
"""
    _, (threads, code, families, awaited) = run(source, capfd)
    assert (threads, code, awaited) == ([0, 1, 2, 3, 4], 7, "awaited")
    assert families[:2] == [1, 2]
    assert families[3:] == [16, -38, -38]


@needs_bubblewrap
def test_the_device_gives_quotes_to_the_operators_own_code(capfd: pytest.CaptureFixture[str]) -> None:
    package = Path(__file__).parents[3] / "src"
    source = f"""
import sys, json
sys.path[:0] = {[str(package), *[path for path in sys.path if path.endswith("site-packages")]]!r}
from uid2.attestation.tee.probe import find_quote_source
source = find_quote_source()
print(json.dumps([source.kind, source.quote(bytes(range(64))).hex()]))
"""
    report, (kind, quote) = run(source, capfd)
    parsed = parse_quote(bytes.fromhex(quote))
    assert kind == "occlum"
    assert parsed.report.report_data == bytes(range(64))
    assert parsed.report.mr_enclave == ENCLAVE.mr_enclave
    assert report.quotes == 1
    assert report.unexpected == ()


@needs_bubblewrap
def test_the_device_refuses_what_the_real_one_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    source = """
import ctypes, errno, fcntl, json, os
def asked(size, data, quote, descriptor):
    length = ctypes.c_uint32(size)
    request = (ctypes.c_uint64 * 3)(data, ctypes.addressof(length), quote)
    try:
        fcntl.ioctl(descriptor, 0xC0187308, request, True)
        return "given"
    except OSError as error:
        return errno.errorcode[error.errno]
device, other = os.open("/dev/sgx", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
data, quote = ctypes.create_string_buffer(64), ctypes.create_string_buffer(9000)
at, to = ctypes.addressof(data), ctypes.addressof(quote)
calls = (9000, at, to, device), (10, at, to, device), (9000, 8, to, device), (9000, at, to, other)
print(json.dumps([asked(*call) for call in calls]))
"""
    _, answers = run(source, capfd)
    assert answers == ["given", "EINVAL", "EFAULT", "ENOTTY"]


@needs_bubblewrap
def test_the_program_sees_the_allowed_variables_and_cannot_write(capfd: pytest.CaptureFixture[str]) -> None:
    source = """
import json, os, resource
try:
    open("/etc/written", "w")
    wrote = True
except OSError:
    wrote = False
open("/mnt/scratch", "w").write("x")
print(json.dumps([dict(os.environ), wrote, resource.getrlimit(resource.RLIMIT_AS)[0], os.getuid()]))
"""
    _, (variables, wrote, space, user) = run(
        source, capfd, core_api_token="a", optout_api_token="b", LD_PRELOAD="evil.so", PATH="/evil", dangerous="1"
    )
    assert variables["core_api_token"] == "a"
    assert variables["optout_api_token"] == "b"
    assert "LD_PRELOAD" not in variables
    assert variables.get("PATH") != "/evil"
    assert variables["OCCLUM"] == "yes"
    assert not wrote
    assert user == 0
    assert space == size_of(program("").settings["resource_limits"]["user_space_size"])


@needs_bubblewrap
def test_the_exit_status_is_the_programs(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_sandboxed(program("raise SystemExit(3)"), quote_of).exit_code == 3
    assert run_sandboxed(program("import os; os.kill(os.getpid(), 9)"), quote_of).exit_code == 137


def test_only_entry_points_run() -> None:
    for command in ((), ("/bin/sh",)):
        refused = SandboxedProgram(Path("/"), occlum_config(enclave_sizes(1, 1, {})), command, {})
        with pytest.raises(ConfigurationError, match="entry point"):
            run_sandboxed(refused, quote_of)


def test_a_machine_without_bubblewrap_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DependencyError, match="bubblewrap"):
        sandbox_command(program(""), 3)


def test_empty_tokens_are_not_passed() -> None:
    assert "core_api_token" not in sandbox_environment(program("", core_api_token=""))


@pytest.mark.parametrize(("text", "size"), [("64MB", 64 << 20), ("1GB", 1 << 30), ("7B", 7), ("2KB", 2048)])
def test_sizes_of_the_settings(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "MB", "64", "-1MB", "1.5GB", "64mb", "1MBB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        size_of(text)


def test_words_of_occlum_are_understood() -> None:
    assert occlum_words([]) == ("/bin/launcher",)
    assert occlum_words(["occlum", "run"]) == ("/bin/launcher",)
    assert occlum_words(["occlum", "run", "/bin/sgx_quote", "--json"]) == ("/bin/sgx_quote", "--json")


def test_no_refusal_is_a_call_that_occlum_answers() -> None:
    answered = answered_calls()
    assert len(answered) > 130
    for name, (number, fallback) in known_refusals().items():
        assert fallback
        assert name == "clone without CLONE_VM" or number not in answered.values()
    assert len(filter_program()) % 8 == 0
    assert len(filter_program()) // 8 < 4096
    digests = {hashlib.sha256(filter_program(trace=trace)).hexdigest() for trace in (False, True)}
    assert len(digests) == 2
    assert os.sysconf("SC_PAGESIZE") == 4096
