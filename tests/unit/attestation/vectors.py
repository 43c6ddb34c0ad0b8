"""The real quote and its collateral, and the mutations of the manifest applied to them."""

import json
from pathlib import Path
from typing import Any

from uid2.attestation.collateral import Collateral

FOLDER = Path(__file__).parents[2] / "vectors" / "dcap"
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
QUOTE = (FOLDER / "sgx_quote.bin").read_bytes()
BUNDLE: dict[str, str] = json.loads((FOLDER / "sgx_quote.collateral.json").read_text())
TIME = 1_750_416_971
MUTATIONS: list[dict[str, Any]] = MANIFEST["mutations"]["cases"]


def collateral(**changed: str) -> Collateral:
    return Collateral.from_bundle(json.dumps(BUNDLE | changed))


def flipped(data: bytes, offset: int, value: int = 1) -> bytes:
    return data[:offset] + bytes([data[offset] ^ value]) + data[offset + 1 :]


def mutated(case: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The quote and the bundle after one mutation."""
    operation = case["op"]
    if operation == "xor":
        return flipped(QUOTE, case["offset"], case["value"]), BUNDLE
    quotes = {
        "drop the last 100 bytes": QUOTE[:-100],
        "keep the first 431 bytes": QUOTE[:431],
        "replace by zero bytes": b"",
        "append 10 zero bytes": QUOTE + bytes(10),
    }
    if operation in quotes:
        return quotes[operation], BUNDLE
    tcb, signature = BUNDLE["tcb_info"], bytes.fromhex(BUNDLE["tcb_info_signature"])
    qe_signature = bytes.fromhex(BUNDLE["qe_identity_signature"])
    first = BUNDLE["tcb_info_issuer_chain"].split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    bundles: dict[str, dict[str, str]] = {
        "tcb_info_trailing_space": {"tcb_info": tcb + " "},
        "tcb_info_status_edit": {"tcb_info": tcb.replace("ConfigurationAndSWHardeningNeeded", "UpToDate")},
        "tcb_info_signature_bit": {"tcb_info_signature": flipped(signature, 0).hex()},
        "qe_identity_signature_bit": {"qe_identity_signature": flipped(qe_signature, 0).hex()},
        "qe_identity_edit": {"qe_identity": BUNDLE["qe_identity"].replace('"isvprodid":1', '"isvprodid":2')},
        "root_crl_empty": {"root_ca_crl": ""},
        "root_crl_is_pck_crl": {"root_ca_crl": BUNDLE["pck_crl"]},
        "pck_crl_is_root_crl": {"pck_crl": BUNDLE["root_ca_crl"]},
        "tcb_chain_empty": {"tcb_info_issuer_chain": ""},
        "tcb_chain_leaf_only": {"tcb_info_issuer_chain": first},
        "pck_crl_issuer_chain_garbage": {"pck_crl_issuer_chain": "garbage"},
        "tdx_collateral_for_sgx_quote": json.loads((FOLDER / "tdx_quote_v4.collateral.json").read_text()),
    }
    return QUOTE, BUNDLE | bundles[case["name"]]
