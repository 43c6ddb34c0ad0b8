"""Core as a process, a PCS on loopback and simulated platforms under one root; every call goes over a socket."""

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from core_process import CoreProcess, running_core
from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.attestation.binding import report_data_v1, report_data_v2
from uid2.protocol.api_keys import hash_key
from uid2.protocol.attest_messages import AttestRequest, encode_attest_request, parse_challenge
from uid2.protocol.crypto.rsa import public_der
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochSeconds
from uid2.simtee.certificates import Authority, make_root
from uid2.simtee.pcs import BASE, PcsApplication
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.scenario import Scenario, SimulatedEnclave
from uid2.simtee.serving import serving

NOW = EpochSeconds(int(time.time()))
KEY = rsa.generate_private_key(65537, 2048)
PUBLIC_KEY = public_der(KEY)
MR_ENCLAVE = bytes(8) + b"\x5a" * 24
# Registered, but for another protocol.
FOREIGN_MR_ENCLAVE = bytes(8) + b"\x5b" * 24
ENCLAVE = SimulatedEnclave(MR_ENCLAVE)
OPERATOR = "UID2-O-L-999-" + secrets.token_hex(3) + "." + secrets.token_hex(19)
OTHER_OPERATOR = "UID2-O-L-999-" + secrets.token_hex(3) + "." + secrets.token_hex(19)
PRIVATE_OPERATOR = "UID2-O-L-999-" + secrets.token_hex(3) + "." + secrets.token_hex(19)


def prepare(bucket: Path) -> None:
    """Adds operator keys of protocol azure-sgx and the registered enclaves."""
    _extend(
        bucket / "operators/operators.json",
        [_operator(OPERATOR, "one"), _operator(OTHER_OPERATOR, "two"), _operator(PRIVATE_OPERATOR, "own", "PRIVATE")],
    )
    enclaves = (("azure-sgx", MR_ENCLAVE), ("gcp-oidc", FOREIGN_MR_ENCLAVE))
    _extend(
        bucket / "enclaves/enclaves.json",
        [{"name": "sim", "protocol": name, "identifier": mark.hex(), "created": NOW} for name, mark in enclaves],
    )


def _extend(file: Path, records: list[dict[str, Any]]) -> None:
    file.write_text(json.dumps(json.loads(file.read_bytes()) + records))


def _operator(key: str, name: str, kind: str = "PUBLIC") -> dict[str, Any]:
    salt = secrets.token_bytes(32)
    return {
        "name": f"sim-{name}",
        "contact": f"sim-{name}",
        "protocol": "azure-sgx",
        "created": NOW,
        "disabled": False,
        "roles": ["OPERATOR"],
        "site_id": 999,
        "operator_type": kind,
        "key_hash": hash_key(key, salt),
        "key_salt": encode_base64(salt),
        "key_id": key[:18],
    }


@dataclass
class Stage:
    """One Core. Each platform gets an FMSPC of its own, so that Core keeps nothing from the platform before."""

    core: CoreProcess
    root: Authority
    pcs: PcsApplication
    collateral_url: str
    http: httpx.Client
    _platforms: list[SimulatedPlatform] = field(default_factory=list)

    def platform(self, scenario: Scenario | None = None, *, root: Authority | None = None) -> SimulatedPlatform:
        """A new platform, whose collateral the PCS serves from now on."""
        chosen = Scenario() if scenario is None else scenario
        if chosen.fmspc == Scenario().fmspc:
            chosen = replace(chosen, fmspc=f"FFFFFFFE{len(self._platforms):04X}")
        platform = SimulatedPlatform.create(NOW, chosen, root=self.root if root is None else root)
        self._platforms.append(platform)
        self.pcs.platform = platform
        return platform

    def nonce(self, key: str = OPERATOR) -> bytes:
        answer = self.http.post(f"{self.core.url}/attest/challenge", headers=_bearer(key))
        return parse_challenge(answer.content).nonce

    def report_data(self, nonce: bytes, public_key: bytes = PUBLIC_KEY, endpoint: str | None = None) -> bytes:
        return report_data_v2(public_key, nonce, endpoint or self.core.url)

    def attest(self, quote: bytes, nonce: bytes | None = None, key: str = OPERATOR, **changed: Any) -> httpx.Response:
        """POST /attest; with a nonce the report data have version 2."""
        members: dict[str, Any] = {
            "evidence": quote,
            "public_key": PUBLIC_KEY,
            "application_name": "uid2-operator",
            "operator_type": "public",
            "report_data_version": 1 if nonce is None else 2,
            "nonce": nonce,
        }
        body = encode_attest_request(AttestRequest(**(members | changed)))
        return self.http.post(f"{self.core.url}/attest", content=body, headers=_bearer(key))

    def quoted(self, scenario: Scenario | None = None, enclave: SimulatedEnclave = ENCLAVE) -> httpx.Response:
        """What Core says to an honest request from such a platform and enclave."""
        nonce = self.nonce()
        return self.attest(self.platform(scenario).quote(self.report_data(nonce), enclave), nonce)

    def good_quote(self) -> bytes:
        """Genuine, with report data of version 1, from a platform that is up to date."""
        return self.platform().quote(report_data_v1(PUBLIC_KEY), ENCLAVE)


@contextlib.contextmanager
def running_stage(folder: Path, **settings: Any) -> Iterator[Stage]:
    root = make_root(NOW)
    pcs = PcsApplication(SimulatedPlatform.create(NOW, root=root))
    file = folder / "root.pem"
    file.write_text(root.pem)
    with serving(pcs) as origin, httpx.Client(trust_env=False, timeout=30.0) as http:
        url = origin + BASE
        members = {"attestation_collateral_url": url, "dangerous_attestation_root": str(file), "optout_url": None}
        with running_core(folder, prepare=prepare, **(members | settings)) as core:
            yield Stage(core, root, pcs, url, http)


def refused(response: httpx.Response, reason_code: str, status: int = 403) -> None:
    """Core says no with this reason and hands nothing out."""
    members = response.json()
    assert (response.status_code, members.get("reason_code")) == (status, reason_code), members
    assert members["status"] != "success"
    assert "body" not in members
    assert "attestation_token" not in response.text


def accepted(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["status"]) == (200, "success"), response.text
    assert response.json()["body"]["attestation_token"]


def verdict_lines(core: CoreProcess, words: str, reason_code: str | None = None) -> list[dict[str, Any]]:
    """The members of Core's log lines whose message begins with `words`."""
    lines = [json.loads(line) for line in core.written().splitlines()]
    return [
        line
        for line in lines
        if line["message"].startswith(words) and (reason_code is None or line.get("reason_code") == reason_code)
    ]


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


Change = Callable[[bytearray], None]
