from pathlib import Path
from types import SimpleNamespace

import pytest

from uid2.attestation.policy import TcbPolicy
from uid2.attestation.roots import INTEL_ROOT
from uid2.core.settings import CoreSettings
from uid2.core.verifiers.azure_sgx import AzureSgxVerifier
from uid2.core.verifiers.selection import attestation_verifiers, tcb_policy, trust_root
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import Secret

DCAP = Path(__file__).parents[3] / "vectors" / "dcap"
OTHER_ROOT = DCAP / "custom_root_sgx/trustedRootCaCert.pem"


def test_intels_root_unless_another_is_configured() -> None:
    assert trust_root(None) is INTEL_ROOT
    found = trust_root(OTHER_ROOT)
    assert found.kind == "TEST"
    assert found.der != INTEL_ROOT.der


@pytest.mark.parametrize("name", ["intel_sgx_root_ca.pem", "intel_sgx_root_ca.der", "manifest.json", "nowhere.pem"])
def test_roots_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"root|nowhere"):
        trust_root(DCAP / name)


def test_policies(tmp_path: Path) -> None:
    assert tcb_policy(None) == TcbPolicy()
    strict = {"accepted_statuses": ["UpToDate"], "accepted_advisories": [], "grace_days": 3}
    wanted = TcbPolicy(frozenset({"UpToDate"}), frozenset(), 3)
    assert tcb_policy(strict) == wanted
    file = tmp_path / "policy.json"
    file.write_text('{"accepted_statuses":["UpToDate"],"accepted_advisories":[],"grace_days":3}')
    assert tcb_policy(str(file)) == wanted


@pytest.mark.parametrize("value", [[], 7, {"accepted_statuses": ["Fine"]}, {"unknown": 1}, "/nowhere.json", __file__])
def test_policies_that_are_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="attestation_policy"):
        tcb_policy(value)


def test_the_verifier_follows_the_settings() -> None:
    settings = CoreSettings(
        Secret(b"k"),
        Secret(b"s"),
        {},
        environment="development",
        dangerous_attestation_root=OTHER_ROOT,
        attestation_min_svn=3,
        attestation_min_report_data_version=2,
        attestation_collateral_dir=DCAP,
    )
    enclaves = SimpleNamespace(registered=lambda protocol: {protocol})
    verifiers = attestation_verifiers(settings, enclaves)
    assert set(verifiers) == {"trusted", "azure-sgx"}
    found = verifiers["azure-sgx"]
    assert isinstance(found, AzureSgxVerifier)
    assert (found.minimum_svn, found.minimum_report_data_version, found.simulated_allowed) == (3, 2, True)
    assert found.root.kind == "TEST"
    assert set(found.registered()) == {"azure-sgx"}
