import os
import random
from pathlib import Path

import pytest

from uid2.devstack.demo_data import LIFETIME_DAYS
from uid2.devstack.state import (
    CREDENTIALS,
    PROGRAMS,
    Running,
    alone,
    announced,
    open_state,
    read_credentials,
    read_running,
)
from uid2.devstack.store_check import check_stores
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import EpochMillis

NOW = EpochMillis(1_795_000_000_000)


def opened(folder: Path, salts: int | None = 50, now: EpochMillis = NOW, seed: int = 1) -> str:
    state = open_state(folder, salts=salts, scope="uid2", now=now, draw=random.Random(seed).randbytes)
    return state.credentials.client_key


def test_stores_are_kept_across_starts(tmp_path: Path) -> None:
    first = opened(tmp_path, seed=1)

    assert opened(tmp_path, seed=2) == first
    assert opened(tmp_path, salts=None, seed=3) == first
    assert read_credentials(tmp_path).client_key == first


def test_only_the_owner_may_read_the_credentials(tmp_path: Path) -> None:
    opened(tmp_path)

    assert os.stat(tmp_path / "stores-uid2" / CREDENTIALS).st_mode & 0o077 == 0
    assert os.stat(tmp_path / "stores-uid2").st_mode & 0o077 == 0


def test_another_number_of_salts_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, salts=50)

    with pytest.raises(ConfigurationError, match="50 salts, not 60"):
        opened(tmp_path, salts=60)


def test_expired_stores_are_refused_with_the_way_out(tmp_path: Path) -> None:
    opened(tmp_path)

    with pytest.raises(ConfigurationError, match="expired") as refusal:
        opened(tmp_path, now=EpochMillis(NOW + (LIFETIME_DAYS + 1) * 86_400_000))

    assert "remove" in refusal.value.next_step


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    def broken(_: int) -> bytes:
        raise OSError("no randomness")

    with pytest.raises(OSError, match="no randomness"):
        open_state(tmp_path, salts=5, scope="uid2", now=NOW, draw=broken)

    assert list(tmp_path.iterdir()) == []


def test_running_stands_while_the_stack_runs(tmp_path: Path) -> None:
    running = Running(
        pid=1, operators=["http://127.0.0.1:8080"], identity_scope="uid2", core="http://core", optout="http://optout"
    )

    with announced(tmp_path, running):
        assert read_running(tmp_path) == running
    with pytest.raises(ConfigurationError, match="no stack is running"):
        read_running(tmp_path)


def test_stores_without_operator_keys_are_refused_with_the_way_out(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "stores-uid2" / PROGRAMS).unlink()

    with pytest.raises(ConfigurationError, match="no keys of operators") as refusal:
        opened(tmp_path)

    assert "remove" in refusal.value.next_step


def test_unreadable_credentials_name_the_file(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "stores-uid2" / CREDENTIALS).write_bytes(b"{")

    with pytest.raises(ConfigurationError, match=CREDENTIALS):
        read_credentials(tmp_path)


def test_a_folder_belongs_to_one_stack(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(ConfigurationError, match="another stack"), alone(tmp_path):
        raise AssertionError("entered twice")
    with alone(tmp_path):
        pass


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("operators/operators.json", "[{}]", "operators.json"),
        ("enclaves/metadata.json", "{}", "enclaves"),
        ("clients/clients.json", None, "clients"),
    ],
)
def test_broken_stores_are_named_before_anything_starts(
    tmp_path: Path, file: str, damage: str | None, words: str
) -> None:
    opened(tmp_path)
    bucket = tmp_path / "stores-uid2"
    check_stores(bucket, NOW)
    (bucket / file).unlink()
    if damage is not None:
        (bucket / file).write_text(damage)

    with pytest.raises(ConfigurationError, match=words) as refusal:
        check_stores(bucket, NOW)

    assert "makes new stores" in refusal.value.next_step
