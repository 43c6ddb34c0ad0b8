"""The really built enclave package of `./build.sh sim`, in the sandbox, beside Core and OptOut of `uid2 up`.

Its addresses are baked in, so it needs the documented ports; `make test-package` builds it and runs these tests.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from uid2.packaging.sandbox import SIMULATED

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("UID2_BUILD", ROOT / "scripts/azure/build"))
PACKAGE = BUILD / "uid2-operator/uid2-operator.tar.gz"
OPERATOR = "http://127.0.0.1:8080"
OPS = "http://127.0.0.1:9080"
READY_SECONDS = 60.0


@dataclass(frozen=True)
class SandboxedOperator:
    """The running one: addresses and demo client as a development stack's, `log` its stderr."""

    url: str
    key: str
    secret: str
    site_id: int
    scope: str
    state: Path
    log: Path
    ready_seconds: float
    resident_bytes: int


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = None
    if not os.environ.get("UID2_BUILD"):
        reason = "needs a built package and the documented ports: make test-package"
    elif not PACKAGE.is_file():
        reason = f"no package {PACKAGE}"
    elif shutil.which("bwrap") is None:
        reason = "needs bubblewrap"
    if reason is not None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def stack_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator") / "run.log"


@pytest.fixture(scope="session")
def sandboxed(tmp_path_factory: pytest.TempPathFactory, stack_log: Path) -> Iterator[SandboxedOperator]:
    state = tmp_path_factory.mktemp("state")
    words = ["up", "--operators", "0", "--json", "--state", str(state), "--enclave", str(BUILD / "identity.json")]
    services = subprocess.Popen(
        [sys.executable, "-m", "uid2.cli.main", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert services.stdout is not None
    assert services.stderr is not None
    try:
        line = services.stdout.readline()
        assert line, services.stderr.read()
        banner = json.loads(line)
        token = banner["operator_key"]
        variables = {"core_api_token": token, "optout_api_token": token, "UID2_STATE": str(state), "UID2_CALLS": "1"}
        began = time.monotonic()
        with stack_log.open("wb") as log:
            operator = subprocess.Popen(
                [ROOT / "scripts/azure/run.sh"], stderr=log, stdout=log, env={**os.environ, **variables}
            )
        try:
            _await_ready(operator, stack_log)
            yield SandboxedOperator(
                url=OPERATOR,
                key=banner["client_key"],
                secret=banner["client_secret"],
                site_id=banner["site_id"],
                scope="uid2",
                state=state,
                log=stack_log,
                ready_seconds=time.monotonic() - began,
                resident_bytes=_resident("uid2.operator /app/conf/config.json"),
            )
        finally:
            urllib.request.urlopen(urllib.request.Request(f"{OPS}/ops/drain", method="POST"), timeout=5).close()
            operator.wait(timeout=30)
    finally:
        services.send_signal(signal.SIGTERM)
        services.communicate(timeout=60)
    text = stack_log.read_text()
    print("\n" + text[text.index("calls used") :] if "calls used" in text else text[-2000:])
    assert SIMULATED in text
    assert "NO KNOWN FALLBACK" not in text
    assert "calls used: " in text


def _await_ready(operator: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends:
        assert operator.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{OPERATOR}/ops/healthcheck", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def _resident(words: str) -> int:
    """Resident bytes of the operator's process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in command and "launcher" not in command and "bwrap" not in command:
                rows = (folder / "status").read_text().splitlines()
                return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
    return 0
