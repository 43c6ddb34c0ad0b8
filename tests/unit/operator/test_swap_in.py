"""In the place of the Java operator: its configuration file and store files as they are, and the tokens it made."""

import asyncio
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from uid2.operator.context import OperatorContext
from uid2.operator.metric_names import OperatorMetrics
from uid2.operator.routes import operator_application
from uid2.operator.running import RunningOperator
from uid2.operator.settings import ACCEPTED, config_keys, settings_of
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import decode_base64
from uid2.protocol.tokens.advertising import decode_advertising_token
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.health import Health
from uid2.service.http import Headers, Request

VECTORS = Path(__file__).parents[2] / "vectors"
CONFIG = VECTORS / "config" / "operator-mock-config.json"
TOKENS = json.loads((VECTORS / "tokens.json").read_bytes())
NOW = 1_733_800_300_000  # five minutes after the tokens were made
IV = 12


def running(tmp_path: Path, scope: str) -> tuple[OperatorContext, Any]:
    shutil.copytree(VECTORS / "stores" / "operator-mock", tmp_path / "com.uid2.core" / "test")
    environ = {"storage_mock_root": str(tmp_path), "identity_scope": scope.lower()}
    configuration = load_configuration(config_keys(), CONFIG, environ, accepted=ACCEPTED)
    clock = FixedClock(NOW)
    operator = RunningOperator(settings_of(configuration.members), clock, SystemEntropy(), OperatorMetrics(clock))
    operator.load()
    return operator.context, operator_application(operator.context, Health())


@pytest.mark.parametrize("scope", ["UID2", "EUID"])
def test_tokens_of_the_java_operator_are_refreshed_and_read(
    tmp_path: Path, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        context, application = running(tmp_path, scope)
    assert not [record for record in caplog.records if "unknown configuration key" in record.getMessage()]
    keys = context.snapshot.key_ring
    refreshed = 0
    for vector in TOKENS["refresh_tokens_v3"]["vectors"]:
        if vector["scope"] != scope:
            continue
        headers = Headers.of({"content-type": "text/plain"})
        body = vector["wrapped"]["refresh_token"].encode()
        answer = asyncio.run(application.respond(Request("POST", "/v2/token/refresh", headers=headers, body=body)))
        assert answer.status == 200
        sealed = decode_base64(answer.body)
        response_key = GcmKey(decode_base64(vector["wrapped"]["refresh_response_key_b64"]))
        document = json.loads(response_key.open(sealed))
        assert document["status"] == "success"
        token = decode_advertising_token(document["body"]["advertising_token"], keys)
        assert token.publisher.site_id == vector["publisher"]["site_id"]
        assert document["body"]["refresh_expires"] > NOW
        refreshed += 1
    assert refreshed >= 2
    read = 0
    for vector in TOKENS["advertising_tokens"]["vectors"]:
        if vector["scope"] == scope:
            assert bytes(decode_advertising_token(vector["token"], keys).raw_uid).hex() == vector["raw_uid_hex"]
            read += 1
    assert read >= 8
