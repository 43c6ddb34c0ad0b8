import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "core_service"))

from sim_stage import Stage, running_stage

STRICT_POLICY = {
    "accepted_statuses": ["UpToDate"],
    "accepted_advisories": ["INTEL-SA-00001"],
    "grace_days": 30,
    "minimum_evaluation_number": 10,
}


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Core with the policy that is built in."""
    with running_stage(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Core with a policy of its own, and a nonce demanded."""
    settings = {"attestation_policy": STRICT_POLICY, "attestation_min_report_data_version": 2}
    with running_stage(tmp_path_factory.mktemp("strict"), **settings) as running:
        yield running
