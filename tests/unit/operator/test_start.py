"""How a start ends when it cannot succeed: the exit code and a message that names the cause."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uid2.operator.main import serve
from uid2.operator.settings import settings_of
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.ids import IdentityScope

SAMPLE = Path(__file__).parents[2] / "vectors" / "stores" / "operator-mock"
PREFIX = "com.uid2.core/test"
STORES = ("clients", "keysets", "keyset_keys", "salts", "runtime_config")


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def members(tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(SAMPLE, tmp_path / "root" / PREFIX)
    return {
        "storage_mock": True,
        "storage_mock_root": str(tmp_path / "root"),
        "enable_remote_config": True,
        "http_host": "127.0.0.1",
        "http_loop": "asyncio",
        **{f"{store}_metadata_path": f"/{PREFIX}/{store}/metadata.json" for store in STORES},
    }


def start(tmp_path: Path, members: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(members))
    code = serve(file, {"port_offset": "23000"})
    return code, capsys.readouterr().err


def test_a_broken_store_file_ends_the_start_with_its_place(
    tmp_path: Path, members: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "root" / PREFIX / "clients" / "clients.json"
    records = json.loads(file.read_text())
    records[1]["secret"] = "?"
    file.write_text(json.dumps(records))
    code, log = start(tmp_path, members, capsys)
    assert code == 2
    for part in ("clients.json", "record 1", "field secret"):
        assert part in log


def test_a_missing_store_file_is_an_unreachable_dependency(
    tmp_path: Path, members: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root" / PREFIX / "keysets" / "metadata.json").unlink()
    code, log = start(tmp_path, members, capsys)
    assert (code, "keysets/metadata.json" in log) == (4, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"storage_mock": False, "core_attest_url": "https://core.example/attest"}, "core_api_token"),
        ({"storage_mock": False}, "no place for the store files"),
        ({"storage_mock_root": None}, "storage_mock needs a folder"),
        ({"enable_remote_config": False}, "identity_token_expires_after_seconds is required"),
        ({"identity_scope": "other"}, "identity_scope must be uid2 or euid"),
        ({"enable_phone_support": "maybe"}, "enable_phone_support"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(
    tmp_path: Path, members: dict[str, Any], capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    code, log = start(tmp_path, members | changes, capsys)
    assert (code, words in log) == (2, True)


def test_mock_stores_without_a_master_key_are_refused(
    tmp_path: Path, members: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "root" / PREFIX / "keyset_keys" / "keyset_keys.json"
    file.write_text(json.dumps([key for key in json.loads(file.read_text()) if key["keyset_id"] != -1]))
    code, log = start(tmp_path, members, capsys)
    assert (code, "Cannot get a master key" in log) == (2, True)


def test_settings_take_texts_and_keep_secrets_hidden() -> None:
    settings = settings_of({"identity_scope": "EuId", "core_api_token": "token-text", "identity_v3": "TRUE"})
    assert (settings.identity_scope, settings.identity_v3) == (IdentityScope.EUID, True)
    assert "token-text" not in repr(settings)


@pytest.mark.parametrize("members", [{"tcf_vendor_id": -1}, {"tcf_vendor_id": True}, {"optout_api_uri": 5}])
def test_settings_name_the_wrong_key(members: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(members))):
        settings_of(members)
