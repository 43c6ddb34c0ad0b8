import socket
from pathlib import Path

import pytest

from uid2.devstack.banner import first_command, json_banner, text_banner
from uid2.devstack.demo_data import DemoCredentials
from uid2.devstack.demo_programs import ProgramKeys
from uid2.devstack.ports import port_offset, ports_of, require_free_ports
from uid2.devstack.state import Running, State
from uid2.devstack.verdicts import verdicts
from uid2.protocol.errors import ConfigurationError

CREDENTIALS = DemoCredentials("KEY", "SECRET", 123, "subscription", "public", "uid2", 0)
PROGRAMS = ProgramKeys(["OPERATOR"], "OPTOUT")
RUNNING = Running(
    pid=1,
    operators=["http://127.0.0.1:8080", "http://127.0.0.1:8090"],
    identity_scope="uid2",
    core="http://127.0.0.1:8088",
    optout="http://127.0.0.1:8081",
)


def state_in(folder: Path) -> State:
    return State(folder, folder, CREDENTIALS, PROGRAMS)


@pytest.mark.parametrize("text", ["", "x", "-1", "60000", "1.5"])
def test_a_malformed_port_offset_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="port_offset"):
        port_offset(text)


def test_a_taken_port_is_named_with_the_fix() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"port {port} is already in use") as refusal:
            require_free_ports([port])

    assert "port_offset" in refusal.value.next_step


def test_the_banner_shows_what_a_reader_needs(tmp_path: Path) -> None:
    text = text_banner(
        state_in(tmp_path),
        RUNNING,
        "http://127.0.0.1:9080",
        ["VERDICT"],
        tmp_path / "core.log",
    )

    for part in (
        "http://127.0.0.1:8090",
        "KEY",
        "SECRET",
        "123",
        "VERDICT",
        "core.log",
        "/metrics",
        first_command(tmp_path),
    ):
        assert part in text


def test_the_json_banner_has_the_documented_members(tmp_path: Path) -> None:
    assert json_banner(state_in(tmp_path), RUNNING) == (
        '{"operator": "http://127.0.0.1:8080", "operators": ["http://127.0.0.1:8080", "http://127.0.0.1:8090"], '
        '"core": "http://127.0.0.1:8088", "optout": "http://127.0.0.1:8081", '
        '"client_key": "KEY", "client_secret": "SECRET", "site_id": 123}'
    )


def test_the_first_command_names_a_state_folder_that_is_not_the_default(tmp_path: Path) -> None:
    assert first_command(Path(".uid2").resolve()).endswith("token someone@example.com")
    assert first_command(tmp_path).endswith(f"--state {tmp_path}")


def test_credentials_hide_themselves() -> None:
    assert "SECRET" not in repr(CREDENTIALS)
    assert "KEY" not in repr(CREDENTIALS)


def test_every_port_is_different() -> None:
    ports = ports_of(0, 50)
    assert len(set(ports)) == len(ports)


def test_verdicts_are_core_s_lines_of_acceptance(tmp_path: Path) -> None:
    log = tmp_path / "core.log"
    log.write_text(
        '{"message": "attestation accepted: optout", "protocol": "trusted"}\n'
        '{"message": "attestation accepted: a root=TEST", "protocol": "azure-sgx"}\n'
        'no json\n[]\n{"message": "attestation refused"}\n'
    )
    assert verdicts(log) == ["a root=TEST"]
