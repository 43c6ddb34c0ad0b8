"""What a stranger does in the first minute, and what goes wrong most often."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from running_stack import Stack, command, free_offset, running_stack

ROOT = Path(__file__).parents[2]


def uid2(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("UID2_")}
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=120, check=False, env=env, cwd=cwd)


def test_the_printed_command_makes_a_token(tmp_path: Path) -> None:
    offset = free_offset()
    process = subprocess.Popen(
        command("up", "--state", str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "port_offset": str(offset)},
    )
    try:
        assert process.stdout is not None
        banner = ""
        while "Ctrl-C" not in banner:
            line = process.stdout.readline()
            assert line, banner
            banner += line
        printed = next(line.strip() for line in banner.splitlines() if " token " in line)
        words = shlex.split(printed)

        result = uid2(*words[1:])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        status = process.returncode

    assert result.returncode == 0, result.stderr
    assert re.search(r"attested +.*root=TEST.*mr_enclave=0{16}[0-9a-f]{48}", banner)
    assert re.search(r"advertising token +A4", result.stdout)
    assert re.search(r"raw UID +[A-Za-z0-9+/]{43}=", result.stdout)
    assert re.search(r"refresh from .* \(in 1[45] min", result.stdout)
    assert "Refreshed with the refresh token alone" in result.stdout
    assert status == 0
    assert not (tmp_path / "running.json").exists()


def test_token_and_its_refresh_name_the_same_person(stack: Stack) -> None:
    result = uid2("token", "someone@example.com", "--state", str(stack.state))

    raw_uids = re.findall(r"raw UID +(\S+)", result.stdout)
    tokens = re.findall(r"advertising token +(\S+)", result.stdout)
    assert len(raw_uids) == 2
    assert raw_uids[0] == raw_uids[1]
    assert tokens[0] != tokens[1]


def test_test_identities(stack: Stack) -> None:
    optout = uid2("token", "optout@example.com", "--state", str(stack.state))
    refresh = uid2("token", "refresh-optout@example.com", "--state", str(stack.state))

    assert optout.stdout.startswith("optout: this person has opted out")
    assert "advertising token" in refresh.stdout
    assert "Refreshed: optout" in refresh.stdout


def test_a_phone_number(stack: Stack) -> None:
    result = uid2("token", "+14155550100", "--state", str(stack.state))

    assert re.search(r"advertising token +B4", result.stdout)


def test_inspect_opens_the_token_the_stack_made(stack: Stack) -> None:
    made = uid2("token", "someone@example.com", "--state", str(stack.state)).stdout
    token = re.findall(r"advertising token +(\S+)", made)[0]
    refresh_token = re.findall(r"refresh token +(\S+)", made)[0]

    opened = uid2("inspect", "token", token, "--state", str(stack.state)).stdout
    refresh = uid2("inspect", "refresh-token", refresh_token, "--state", str(stack.state)).stdout

    assert re.findall(r"raw UID +(\S+)", made)[0] in opened
    assert "UID2 e-mail" in refresh


def test_map_a_list(stack: Stack, tmp_path: Path) -> None:
    source = tmp_path / "people.csv"
    rows = "".join(f"{n},person{n}@example.com\n" for n in range(12_000))
    source.write_text(f"id,email\n{rows}x,optout@example.com\ny,not an address\nz,\n")

    result = uid2("map", str(source), "--state", str(stack.state))

    assert result.returncode == 0, result.stderr
    assert "12,003 rows: 12,000 mapped, 1 blank, 1 invalid identifier, 1 optout" in result.stdout
    written = (tmp_path / "people.mapped.csv").read_text().splitlines()
    assert written[0] == "id,email,raw_uid,previous_raw_uid,refresh_from,unmapped_reason"
    assert len(written) == 12_004
    assert len({line.split(",")[2] for line in written[1:12_001]}) == 12_000
    assert written[-1] == "z,,,,,blank"


def test_a_wrong_secret_is_explained(stack: Stack) -> None:
    words = ("--url", stack.url, "--key", stack.key, "--secret", "A" * 43 + "=")
    result = uid2("token", "someone@example.com", *words)

    assert result.returncode == 1
    assert "check that the client secret belongs to the client key" in result.stderr
    assert stack.key not in result.stderr


def test_a_taken_port_is_named_with_the_fix(stack: Stack, tmp_path: Path) -> None:
    result = subprocess.run(
        command("up", "--state", str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "port_offset": str(stack.offset)},
    )

    assert result.returncode == 2
    assert f"port {8080 + stack.offset} is already in use" in result.stderr
    assert "port_offset=1000 uid2 up" in result.stderr


def test_a_broken_store_stops_the_start_with_its_place(tmp_path: Path) -> None:
    with running_stack(tmp_path):
        pass
    sites = tmp_path / "stores-uid2/sites/sites.json"
    sites.write_text(sites.read_text().replace('"PUBLISHER"', '"NOBODY"'))
    config = tmp_path / "config.json"
    alone = {
        "storage_mock": True,
        "storage_mock_root": str(sites.parents[1]),
        "enable_remote_config": True,
        "client_side_token_generate": True,
    }
    config.write_text(json.dumps(alone))

    # A stack, and an operator that reads its stores itself.
    for words in (("up", "--state", str(tmp_path), "--json"), ("operator", "serve", "--config", str(config))):
        result = subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "port_offset": str(free_offset())},
        )

        assert result.returncode == 2
        assert "sites.json" in result.stderr
        assert "clientTypes" in result.stderr
        assert result.stdout == ""


def test_a_second_stack_from_the_same_folder_is_refused(stack: Stack) -> None:
    result = subprocess.run(
        command("up", "--state", str(stack.state)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "port_offset": str(free_offset())},
    )

    assert result.returncode == 2
    assert "another stack is running" in result.stderr
    assert uid2("token", "someone@example.com", "--state", str(stack.state)).returncode == 0


def test_core_decided_about_the_operator_and_says_so(stack: Stack) -> None:
    """Attested through the simulated TEE: nothing of a stand-alone mode is left."""
    config = json.loads((stack.state / "operator-uid2-0" / "config.json").read_bytes())
    assert not [name for name in config if name.startswith("storage_mock")]
    status = httpx.get(f"{stack.ops_url}/ops/status", trust_env=False).json()
    assert (status["attested"], status["attestation"]["report_data_version"]) == (True, 2)
    written = (stack.state / "core-uid2" / "core.log").read_text()
    verdict = next(line for line in written.splitlines() if "attestation accepted: operator operator-0" in line)
    record = json.loads((stack.state / "operator-uid2-0" / "identity.json").read_bytes())
    assert f"mr_enclave={record['mr_enclave']}" in verdict
    assert "root=TEST" in verdict
    assert httpx.get(f"{stack.banner['core']}/ops/healthcheck", trust_env=False).status_code == 200


def test_several_operators_share_keys_and_salts(tmp_path: Path) -> None:
    with running_stack(tmp_path, operators=2) as stack:
        first, second = stack.banner["operators"]
        words = ("--key", stack.key, "--secret", stack.secret)
        results = [uid2("token", "someone@example.com", "--url", url, *words).stdout for url in (first, second)]

    assert [re.findall(r"raw UID +(\S+)", text)[0] for text in results] == [
        re.findall(r"raw UID +(\S+)", results[0])[0]
    ] * 2


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        first = (stack.key, uid2("token", "someone@example.com", "--state", str(tmp_path)).stdout)
    with running_stack(tmp_path) as stack:
        second = (stack.key, uid2("token", "someone@example.com", "--state", str(tmp_path)).stdout)

    assert first[0] == second[0]
    assert re.findall(r"raw UID +(\S+)", first[1]) == re.findall(r"raw UID +(\S+)", second[1])


def test_the_stack_listens_on_loopback_only(stack: Stack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; picks the address other machines would see
        except OSError:
            pytest.skip("this machine has no other address")
        address = probe.getsockname()[0]
    for port in (8080, 9080, 9091):
        with socket.socket() as caller:
            caller.settimeout(5)
            assert caller.connect_ex((address, port + stack.offset)) != 0


def test_the_readme_samples_run(stack: Stack, tmp_path: Path) -> None:
    """Every `uid2 …` and `printf …` line and the Python sample of the README, against the running stack."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shell = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.S) for line in block.splitlines()]
    python = re.findall(r"```python\n(.*?)```", readme, re.S)
    ran = 0
    for line in shell:
        if line.startswith("printf"):
            subprocess.run(line, shell=True, check=True, cwd=tmp_path)
            ran += 1
        elif line.startswith(".venv/bin/uid2"):
            words = shlex.split(line)[1:]
            state = ("--state", str(stack.state)) if words[0] != "inspect" else ()
            result = uid2(*words, *state, cwd=tmp_path)
            assert result.returncode == 0, (line, result.stderr)
            ran += 1
    for sample in python:
        code = sample.replace("http://127.0.0.1:8080", stack.url)
        given = f"client_key, client_secret = {stack.key!r}, {stack.secret!r}\n"
        check = "assert refreshed.get_advertising_token()"
        subprocess.run([sys.executable, "-c", f"{given}{code}\n{check}"], check=True, cwd=tmp_path)
        ran += 1

    assert ran >= 5
    assert (tmp_path / "mapped.csv").exists()
