"""The configurations of a development stack's programs, in the documented keys."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uid2.devstack.demo_programs import ENCLAVE
from uid2.devstack.simulated_tee import SimulatedTee
from uid2.devstack.state import State
from uid2.protocol.encoding import encode_base64

JWT_KEY: Final = "jwt_signing_key.pem"
ROOT: Final = "simulated_root.pem"
RECORD: Final = "identity.json"
PRODUCE_SECONDS: Final = 30
LISTING_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services of one stack are, without a trailing slash."""

    host: str
    core: str
    optout: str


@dataclass(frozen=True, slots=True)
class SharedSecrets:
    """What Core and the opt-out service share; made anew with each start."""

    token_key: str = field(repr=False)
    token_salt: str = field(repr=False)

    @classmethod
    def new(cls) -> "SharedSecrets":
        return cls(encode_base64(secrets.token_bytes(32)), encode_base64(secrets.token_bytes(32)))


def core_config(
    state: State, folder: Path, at: Addresses, shared: SharedSecrets, tee: SimulatedTee
) -> dict[str, object]:
    """Core on the demo bucket; `folder` holds its JWT key and the root certificate of the simulated TEE."""
    return {
        "environment": "development",
        "http_host": at.host,
        "core_s3_bucket": f"file://{state.stores}",
        "core_public_url": at.core,
        "optout_url": at.optout,
        "att_token_enc_key": shared.token_key,
        "att_token_enc_salt": shared.token_salt,
        "jwt_signing_key_file": str(folder / JWT_KEY),
        "enforceJwt": True,
        "attestation_collateral_url": tee.collateral_url,
        "attestation_min_report_data_version": 2,
        "dangerous_attestation_root": str(folder / ROOT),
    }


def optout_config(
    state: State, folder: Path, at: Addresses, shared: SharedSecrets, jwt_public_key: str
) -> dict[str, object]:
    """The opt-out service; `folder` holds its queue and its bucket. Operator keys and partners come from Core."""
    return {
        "environment": "development",
        "http_host": at.host,
        "core_public_url": at.core,
        "optout_url": at.optout,
        "att_token_enc_key": shared.token_key,
        "att_token_enc_salt": shared.token_salt,
        "aws_kms_jwt_signing_public_keys": jwt_public_key,
        "core_attest_url": f"{at.core}/attest",
        "core_api_token": state.programs.optout,
        "partners_metadata_path": "/partners/refresh",
        "optout_s3_bucket": f"file://{folder / 'bucket'}",
        "optout_data_dir": str(folder),
        "optout_internal_api_token": encode_base64(secrets.token_bytes(24)),
        "optout_produce_interval": PRODUCE_SECONDS,
        "optout_sqs_delta_window_seconds": 0,
        "cloud_refresh_interval": LISTING_SECONDS,
    }


def operator_config(state: State, folder: Path, at: Addresses, number: int, tee: SimulatedTee) -> dict[str, object]:
    """Operator `number` behind Core, its own data under `folder`."""
    return {
        "environment": "development",
        "identity_scope": state.credentials.identity_scope,
        "core_attest_url": f"{at.core}/attest",
        "core_api_token": state.programs.operators[number],
        "enclave_platform": "azure-sgx",
        "dangerous_simulated_tee": str(tee.socket),
        "enable_remote_config": True,
        "client_side_token_generate": True,
        "validate_service_links": True,
        "optout_status_api_enabled": True,
        "identity_record": str(folder / RECORD),
        "optout_data_dir": str(folder / "optout"),
        "optout_s3_folder": "optout/",
        "optout_api_uri": f"{at.optout}/optout/replicate",
        "optout_metadata_path": "/optout/refresh",
        "uid_instance_id_prefix": "local-operator",
        "http_host": at.host,
    }


def identity_record() -> bytes:
    """What a build would publish of itself, here of the simulated enclave; evidence is held against it."""
    members = {
        "mr_enclave": ENCLAVE.mr_enclave.hex(),
        "mr_signer": ENCLAVE.mr_signer.hex(),
        "product_id": ENCLAVE.product_id,
        "svn": ENCLAVE.svn,
        "measurement": "simulated",
    }
    return json.dumps(members, indent=1).encode() + b"\n"
