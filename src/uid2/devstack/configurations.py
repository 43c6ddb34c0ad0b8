"""The configurations of a development stack's programs, in the documented keys."""

import json
import secrets
from pathlib import Path
from typing import Final

from uid2.devstack.demo_programs import ENCLAVE
from uid2.devstack.simulated_tee import SimulatedTee
from uid2.devstack.state import State
from uid2.protocol.encoding import encode_base64

JWT_KEY: Final = "jwt_signing_key.pem"
ROOT: Final = "simulated_root.pem"
RECORD: Final = "identity.json"


def core_config(state: State, folder: Path, host: str, origin: str, tee: SimulatedTee) -> dict[str, object]:
    """Core on the demo bucket; `folder` holds its JWT key and the root certificate of the simulated TEE."""
    return {
        "environment": "development",
        "http_host": host,
        "core_s3_bucket": f"file://{state.stores}",
        "core_public_url": origin,
        "att_token_enc_key": encode_base64(secrets.token_bytes(32)),
        "att_token_enc_salt": encode_base64(secrets.token_bytes(32)),
        "jwt_signing_key_file": str(folder / JWT_KEY),
        "enforceJwt": True,
        "attestation_collateral_url": tee.collateral_url,
        "attestation_min_report_data_version": 2,
        "dangerous_attestation_root": str(folder / ROOT),
    }


def operator_config(
    state: State, folder: Path, host: str, number: int, core_origin: str, tee: SimulatedTee
) -> dict[str, object]:
    """Operator `number` behind Core, its own data under `folder`."""
    return {
        "environment": "development",
        "identity_scope": state.credentials.identity_scope,
        "core_attest_url": f"{core_origin}/attest",
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
        "uid_instance_id_prefix": "local-operator",
        "http_host": host,
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
