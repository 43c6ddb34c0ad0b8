"""What the opt-out service refuses to start with."""

import json
from pathlib import Path
from typing import Any

import pytest

from uid2.optout.settings import ACCEPTED, KEYS, OptOutSettings, settings_of
from uid2.protocol.errors import ConfigurationError
from uid2.service.config import load_configuration

SQS = {"optout_sqs_queue_url": "https://sqs.us-east-1.amazonaws.com/1/queue", "aws_region": "us-east-1"}
FROM_CORE = {"storage_mock_root": None, "core_attest_url": "https://core.test/attest", "core_api_token": "key"}


def settings(folder: Path, **members: Any) -> OptOutSettings:
    file = folder / "optout.json"
    given = {
        "att_token_enc_key": "key",
        "att_token_enc_salt": "salt",
        "storage_mock_root": str(folder),
        "optout_s3_bucket": f"file://{folder}",
    }
    file.write_text(json.dumps({name: value for name, value in (given | members).items() if value is not None}))
    return settings_of(load_configuration(KEYS, file, {}, accepted=ACCEPTED))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"att_token_enc_key": None}, "att_token_enc_key"),
        ({"optout_s3_bucket": None}, "no place for the opt-out files"),
        ({"storage_mock_root": None}, "no place for the operator keys"),
        ({"storage_mock_root": None, "core_attest_url": "http://core/attest"}, "core_api_token is not"),
        ({"storage_mock_root": None, "core_api_token": "key"}, "no place for the operator keys"),
        ({"core_attest_url": "http://core/attest"}, "core_api_token is not"),
        ({"optout_sqs_queue_url": "http://sqs.example.com/1/queue"}, "https address of an SQS queue"),
        ({"optout_sqs_queue_url": "sqs.example.com/1/queue"}, "https address of an SQS queue"),
        ({"optout_sqs_queue_url": "https://sqs.example.com/"}, "https address of an SQS queue"),
        (SQS | {"aws_sqs_endpoint": "http://127.0.0.1:4566", "aws_region": None}, "aws_region is not"),
        (SQS | {"aws_sqs_endpoint": "127.0.0.1:4566"}, "aws_sqs_endpoint"),
        (SQS | {"optout_sqs_visibility_timeout": 43_201}, "at most 43200"),
        (SQS | {"environment": "prod", "aws_sqs_endpoint": "http://sqs"}, "must begin with https"),
        ({"optout_shared_tail": "sometimes"}, "auto, on, off"),
        ({"environment": "prod", "optout_url": "http://optout"}, "must begin with https"),
        ({"environment": "integ", **FROM_CORE, "core_attest_url": "http://core/attest"}, "must begin with https"),
        ({**FROM_CORE, "core_attest_url": "https://user:pw@core.test/attest"}, "must be an address"),
        ({"environment": "nowhere"}, "environment"),
        ({"cloud_refresh_interval": 0}, "cloud_refresh_interval"),
    ],
)
def test_what_does_not_fit_is_named_with_the_fix(tmp_path: Path, members: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refusal:
        settings(tmp_path, **members)
    assert refusal.value.next_step


def test_a_missing_place_of_keys_names_both_ways(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        settings(tmp_path, storage_mock_root=None)
    assert "core_attest_url" in refusal.value.next_step
    assert "storage_mock_root" in refusal.value.next_step


@pytest.mark.parametrize("environment", ["prod", "integ", "development", None])
def test_core_alone_is_a_place_of_keys(tmp_path: Path, environment: str | None) -> None:
    made = settings(tmp_path, environment=environment, **FROM_CORE)
    assert (made.storage_mock_root, made.core_attest_url) == (None, "https://core.test/attest")
    assert made.store_paths == {"operators": "operators/metadata.json"}
    assert "key" not in repr(made.core_api_token)


def test_a_queue_by_url_is_a_folder(tmp_path: Path) -> None:
    assert settings(tmp_path, optout_sqs_queue_url="file:///var/q%20q").optout_queue_dir == Path("/var/q q")
    assert settings(tmp_path, optout_data_dir="/data").optout_queue_dir == Path("/data/queue")


@pytest.mark.parametrize(
    ("members", "shared"),
    [
        ({}, False),
        ({"optout_shared_tail": "on"}, True),
        ({"optout_s3_bucket": "bucket"}, True),
        ({"optout_s3_bucket": "s3://bucket", "optout_shared_tail": "off"}, False),
        (SQS, True),
        (SQS | {"optout_shared_tail": "off"}, False),
        ({"storage_mock": True, "optout_s3_bucket": "bucket"}, False),
    ],
)
def test_when_the_tail_is_shared(tmp_path: Path, members: dict[str, Any], shared: bool) -> None:
    assert settings(tmp_path, **members).shares_tail is shared
