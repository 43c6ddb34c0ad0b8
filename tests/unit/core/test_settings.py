import json
from pathlib import Path
from typing import Any

import pytest
from core_stage import STORES

from uid2.core.main import serve
from uid2.core.settings import ACCEPTED, INTEL_PCS, KEYS, CoreSettings, settings_of
from uid2.protocol.errors import ConfigurationError
from uid2.service.config import load_configuration
from uid2.service.exits import ExitCode

NEEDED = {"core_s3_bucket": "file:///stores", "att_token_enc_key": "k", "att_token_enc_salt": "s"}
PRODUCTION: dict[str, Any] = {"environment": "prod", "core_public_url": "https://core", "optout_url": "https://optout"}


def settings(folder: Path, environ: dict[str, str] | None = None, **members: Any) -> CoreSettings:
    file = folder / "core.json"
    file.write_text(json.dumps({name: value for name, value in (NEEDED | members).items() if value is not None}))
    return settings_of(load_configuration(KEYS, file, environ or {}, accepted=ACCEPTED, folder=folder))


def test_defaults(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.att_token_lifetime_seconds == 7200
    assert found.pre_signed_url_expiry == 1800
    assert (found.service_port, found.ops_port) == (8088, 9088)
    assert found.metadata_paths["keyset_keys"] == "keyset_keys/metadata.json"
    assert found.attestation_collateral_url == INTEL_PCS
    assert (found.attestation_min_report_data_version, found.attestation_min_svn) == (1, 2)
    assert not found.enforce_jwt
    assert not found.provide_private_site_data
    assert not found.private_operator_cstg
    assert not found.guarded


def test_the_environment_shifts_ports(tmp_path: Path) -> None:
    assert settings(tmp_path, {"port_offset": "100"}).service_port == 8188


def test_secrets_do_not_show(tmp_path: Path) -> None:
    text = repr(settings(tmp_path, att_token_enc_key="passphrase-canary", aws_secret_access_key="aws-canary"))
    assert "canary" not in text


def test_keys_of_the_reference_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "core.json"
    file.write_text(json.dumps(NEEDED | dict.fromkeys(ACCEPTED, "x") | {"service_verbose": True}))
    assert load_configuration(KEYS, file, {}, accepted=ACCEPTED, folder=tmp_path).warnings == ()


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"att_token_enc_key": None}, "att_token_enc_key"),
        ({"att_token_enc_salt": ""}, "att_token_enc_salt"),
        ({"core_s3_bucket": None}, "no place for the store files"),
        ({"storage_mock": True}, "storage_mock needs a folder"),
        ({"att_token_lifetime_seconds": 0}, "att_token_lifetime_seconds"),
        ({"att_token_lifetime_seconds": "soon"}, "att_token_lifetime_seconds"),
        ({"pre_signed_url_expiry": -1}, "pre_signed_url_expiry"),
        ({"attestation_min_report_data_version": 3}, "attestation_min_report_data_version"),
        ({"attestation_min_svn": 0}, "attestation_min_svn"),
        ({"core_public_url": "core:8088"}, "core_public_url"),
        ({"optout_url": "ftp://optout"}, "optout_url"),
        ({"environment": "production"}, "environment"),
        ({"enforceJwt": True}, "core_public_url is not set"),
        ({"jwt_signing_key_file": "key.pem"}, "core_public_url is not set"),
        ({"dangerous_attestation_root": "root.pem"}, "dangerous_attestation_root"),
        ({"dangerous_attestation_root": "root.pem", **PRODUCTION}, "dangerous_attestation_root"),
        (
            {"dangerous_attestation_root": "root.pem", **PRODUCTION, "environment": "integ"},
            "dangerous_attestation_root",
        ),
        ({"dangerous_attestation_root": "root.pem", "environment": "development", "sealed": True}, "sealed"),
        ({**PRODUCTION, "core_public_url": "http://core"}, "core_public_url must begin with https://"),
        ({**PRODUCTION, "optout_url": "http://optout"}, "optout_url must begin with https://"),
        ({**PRODUCTION, "attestation_collateral_url": "http://pccs"}, "attestation_collateral_url must begin with"),
        ({**PRODUCTION, "enable_test_endpoints": True}, "enable_test_endpoints"),
    ],
)
def test_what_is_refused(tmp_path: Path, members: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        settings(tmp_path, **members)


def test_production_allows_stores_and_signing_key_on_this_machine(tmp_path: Path) -> None:
    key = str(STORES / "jwt/jwt_signing_private_key.pem")
    found = settings(tmp_path, **PRODUCTION, jwt_signing_key_file=key)
    assert found.guarded
    assert not found.simulated_enclaves_allowed


def test_simulated_enclaves_are_for_development_alone(tmp_path: Path) -> None:
    assert settings(tmp_path, environment="development").simulated_enclaves_allowed
    assert not settings(tmp_path).simulated_enclaves_allowed


@pytest.mark.parametrize(
    "members",
    [
        {"att_token_enc_key": None},
        {"jwt_signing_key_file": "/nowhere.pem", "core_public_url": "http://core"},
        {"jwt_signing_key_file": __file__, "core_public_url": "http://core"},
        {"aws_kms_jwt_signing_public_keys": "AAAA"},
        {"core_s3_bucket": "carrier-pigeon://x"},
    ],
)
def test_a_bad_configuration_ends_the_program_with_2(tmp_path: Path, members: dict[str, Any]) -> None:
    file = tmp_path / "core.json"
    file.write_text(json.dumps({name: value for name, value in (NEEDED | members).items() if value is not None}))
    assert serve(file, {}) == ExitCode.CONFIGURATION
