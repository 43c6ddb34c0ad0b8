"""The official SDK against the sandboxed, attested operator."""

import json
import urllib.request

from uid2_client import (
    BidstreamClient,
    IdentityMapV3Client,
    IdentityMapV3Input,
    SharingClient,
    TokenGenerateInput,
    Uid2PublisherClient,
)

from .conftest import BUILD, OPS, PACKAGE, SandboxedOperator


def test_the_publishers_path(sandboxed: SandboxedOperator) -> None:
    client = Uid2PublisherClient(sandboxed.url, sandboxed.key, sandboxed.secret)
    identity = client.generate_token(TokenGenerateInput.from_email("someone@example.com")).get_identity()
    refreshed = client.refresh_token(identity).get_identity()
    assert refreshed.get_advertising_token() != identity.get_advertising_token()
    bidstream = BidstreamClient(sandboxed.url, sandboxed.key, sandboxed.secret)
    assert bidstream.refresh().success
    found = {
        bidstream.decrypt_token_into_raw_uid(token.get_advertising_token(), "com.app").uid
        for token in (identity, refreshed)
    }
    assert len(found) == 1


def test_the_advertisers_path(sandboxed: SandboxedOperator) -> None:
    client = IdentityMapV3Client(sandboxed.url, sandboxed.key, sandboxed.secret)
    inputs = [f"user{number}@example.com" for number in range(5000)]
    mapped = client.generate_identity_map(IdentityMapV3Input.from_emails(inputs)).mapped_identities
    assert len(mapped) == 5000
    assert len({identity.current_raw_uid for identity in mapped.values()}) == 5000


def test_sharing(sandboxed: SandboxedOperator) -> None:
    client = SharingClient(sandboxed.url, sandboxed.key, sandboxed.secret)
    assert client.refresh().success
    mapped = IdentityMapV3Client(sandboxed.url, sandboxed.key, sandboxed.secret).generate_identity_map(
        IdentityMapV3Input.from_emails(["someone@example.com"])
    )
    raw = mapped.mapped_identities["someone@example.com"].current_raw_uid
    shared = client.encrypt_raw_uid_into_token(raw).encrypted_data
    assert client.decrypt_token_into_raw_uid(shared).uid == raw


def test_it_is_the_built_enclave_that_core_attested(sandboxed: SandboxedOperator) -> None:
    with urllib.request.urlopen(f"{OPS}/ops/status", timeout=5) as answer:
        status = json.load(answer)
    assert status["attestation"]["platform"] == "occlum"
    assert status["attested"]
    record = json.loads((BUILD / "identity.json").read_bytes())
    log = (sandboxed.state / "core-uid2" / "core.log").read_text()
    accepted = [line for line in log.splitlines() if "attestation accepted: operator operator-" in line]
    assert accepted
    assert all(record["mr_enclave"] in line and "root=TEST" in line for line in accepted)


def test_image_numbers(sandboxed: SandboxedOperator) -> None:
    """Printed, and the aims that hold on any machine."""
    files = json.loads((BUILD / "files.json").read_bytes())
    ours = sum(entry.get("size", 0) for entry in files if "/site-packages/" in entry["path"])
    package = PACKAGE.stat().st_size
    everything = sum(entry.get("size", 0) for entry in files)
    rows = (
        f"files {sum(entry['kind'] == 'file' for entry in files)}, package {package / 1e6:.1f} MB",
        f"operator and libraries {ours / 1e6:.1f} MB with byte code, all {everything / 1e6:.1f} MB",
        f"ready after {sandboxed.ready_seconds:.1f} s, resident {sandboxed.resident_bytes / 1e6:.0f} MB",
    )
    print("", *rows, sep="\n")
    assert ours <= 60_000_000
    assert sandboxed.resident_bytes > 0
