"""Every knob of a simulated platform and enclave, and what Core says to it over HTTP (enclave chapter, 9.2)."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from sim_stage import ENCLAVE, FOREIGN_MR_ENCLAVE, MR_ENCLAVE, NOW, Stage, accepted, refused, verdict_lines

from uid2.attestation.policy import STATUSES
from uid2.attestation.quote import DEBUG, EINITTOKEN_KEY, INIT, MODE64BIT, PROVISION_KEY
from uid2.simtee.certificates import make_root
from uid2.simtee.scenario import Scenario, SimulatedEnclave

HOUR = 3600
DAY = 24 * HOUR


def aged(days: int) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) - timedelta(days=days)


def changed_knobs(one: object, plain: object) -> str:
    """For names of tests: the same in every process, so without dates."""
    return " ".join(
        knob.name if knob.name == "tcb_date" else f"{knob.name}={getattr(one, knob.name)}"
        for knob in fields(one)  # type: ignore[arg-type]
        if getattr(one, knob.name) != getattr(plain, knob.name)
    )[:80]


REFUSED_PLATFORMS = [
    (Scenario(tcb_status="Revoked"), "revoked"),
    (Scenario(qe_status="Revoked"), "revoked"),
    (Scenario(tcb_status="OutOfDate"), "tcb_not_acceptable"),
    (Scenario(tcb_status="OutOfDateConfigurationNeeded"), "tcb_not_acceptable"),
    (Scenario(qe_status="OutOfDate"), "tcb_not_acceptable"),
    (Scenario(revoked=frozenset({"pck"})), "revoked"),
    (Scenario(revoked=frozenset({"pck_ca"})), "revoked"),
    (Scenario(revoked=frozenset({"tcb_signer"})), "revoked"),
    (Scenario(revoked=frozenset({"root"})), "revoked"),
    (Scenario(tcb_info_fmspc="FFFFFFFFFF01"), "platform_mismatch"),
    (Scenario(tcb_info_pce_id="0001"), "platform_mismatch"),
    (Scenario(component_disagrees=True), "platform_mismatch"),
    (Scenario(tcb_type=1), "collateral_untrusted"),
    (Scenario(lowest_component=255), "tcb_not_acceptable"),
    (Scenario(authentication_data=bytes(31)), "bad_quote_format"),
    (Scenario(authentication_data=bytes(33)), "bad_quote_format"),
    (Scenario(certification_type=4), "unsupported_certification"),
    (Scenario(certification_type=1), "unsupported_certification"),
    (Scenario(qe_report_padding=b"\x01" * 32), "bad_qe_report"),
    (Scenario(qe_debug=True), "debug_enclave"),
    (Scenario(qe_signer_known=False), "qe_identity_mismatch"),
    (Scenario(pck_ends=-HOUR), "bad_certificate_chain"),
]
UNDECIDED_PLATFORMS = [
    Scenario(collateral_begins=-2 * HOUR, collateral_ends=-HOUR),
    Scenario(collateral_begins=HOUR),
]
ACCEPTED_PLATFORMS = [
    *(Scenario(tcb_status=status) for status in STATUSES[:4]),
    Scenario(tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00334", "INTEL-SA-00615")),
    Scenario(platform_authority=True),
    Scenario(evaluation_number=1),
    Scenario(tcb_date=datetime(2020, 1, 1, tzinfo=UTC)),
    Scenario(fmspc="FFFFFFFD0001"),
]
REFUSED_ENCLAVES = [
    (replace(ENCLAVE, flags=ENCLAVE.flags | DEBUG), "debug_enclave"),
    (replace(ENCLAVE, flags=ENCLAVE.flags | PROVISION_KEY), "forbidden_attributes"),
    (replace(ENCLAVE, flags=ENCLAVE.flags | EINITTOKEN_KEY), "forbidden_attributes"),
    (replace(ENCLAVE, flags=MODE64BIT), "forbidden_attributes"),
    (replace(ENCLAVE, flags=INIT), "forbidden_attributes"),
    (replace(ENCLAVE, product_id=0), "wrong_product"),
    (replace(ENCLAVE, product_id=771), "wrong_product"),
    (replace(ENCLAVE, svn=0), "svn_too_low"),
    (replace(ENCLAVE, svn=1), "svn_too_low"),
    (replace(ENCLAVE, mr_enclave=MR_ENCLAVE[:-1] + b"\0"), "unknown_mrenclave"),
    (replace(ENCLAVE, mr_enclave=bytes(32)), "unknown_mrenclave"),
    (replace(ENCLAVE, mr_enclave=FOREIGN_MR_ENCLAVE), "unknown_mrenclave"),
]
ACCEPTED_ENCLAVES = [
    ENCLAVE,
    replace(ENCLAVE, svn=7),
    replace(ENCLAVE, mr_signer=b"\x77" * 32),
    replace(ENCLAVE, xfrm=0x1F),
    replace(ENCLAVE, misc_select=1),
]


def named(case: tuple[object, str]) -> str:
    one, reason = case
    plain = Scenario() if isinstance(one, Scenario) else ENCLAVE
    return f"{changed_knobs(one, plain)} {reason}"


@pytest.mark.parametrize("case", REFUSED_PLATFORMS, ids=named)
def test_a_platform_that_does_not_convince(stage: Stage, case: tuple[Scenario, str]) -> None:
    scenario, reason = case
    refused(stage.quoted(scenario), reason)


@pytest.mark.parametrize("scenario", UNDECIDED_PLATFORMS, ids=lambda one: changed_knobs(one, Scenario()))
def test_collateral_outside_its_dates_is_cores_trouble(stage: Stage, scenario: Scenario) -> None:
    answer = stage.quoted(scenario)
    refused(answer, "collateral_expired", 503)
    assert int(answer.headers["retry-after"]) > 0


def test_a_platform_nobody_has_collateral_for(stage: Stage) -> None:
    nonce = stage.nonce()
    quote = stage.platform().quote(stage.report_data(nonce), ENCLAVE)
    stage.platform()
    refused(stage.attest(quote, nonce), "collateral_missing", 503)


@pytest.mark.parametrize("scenario", ACCEPTED_PLATFORMS, ids=lambda one: changed_knobs(one, Scenario()) or "plain")
def test_a_platform_that_is_good_enough(stage: Stage, scenario: Scenario) -> None:
    accepted(stage.quoted(scenario))


@pytest.mark.parametrize("case", REFUSED_ENCLAVES, ids=named)
def test_an_enclave_that_is_not_ours(stage: Stage, case: tuple[SimulatedEnclave, str]) -> None:
    enclave, reason = case
    refused(stage.quoted(enclave=enclave), reason)


@pytest.mark.parametrize("enclave", ACCEPTED_ENCLAVES, ids=lambda one: changed_knobs(one, ENCLAVE) or "plain")
def test_an_enclave_that_is_ours(stage: Stage, enclave: SimulatedEnclave) -> None:
    accepted(stage.quoted(enclave=enclave))


@pytest.mark.parametrize(("marked", "reason"), [(True, "test_root"), (False, "untrusted_root")])
def test_a_platform_under_another_root(stage: Stage, marked: bool, reason: str) -> None:
    nonce = stage.nonce()
    platform = stage.platform(Scenario(marked=marked), root=make_root(NOW, marked=marked))
    refused(stage.attest(platform.quote(stage.report_data(nonce), ENCLAVE), nonce), reason)


def test_collateral_under_another_root(stage: Stage) -> None:
    nonce = stage.nonce()
    platform = stage.platform()
    stage.platform(platform.scenario, root=make_root(NOW))
    refused(stage.attest(platform.quote(stage.report_data(nonce), ENCLAVE), nonce), "collateral_untrusted")


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (Scenario(tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00001",)), "tcb_not_acceptable"),
        (Scenario(tcb_status="ConfigurationNeeded"), "tcb_not_acceptable"),
        (Scenario(advisories=("INTEL-SA-00001", "INTEL-SA-00002")), "tcb_not_acceptable"),
        (Scenario(evaluation_number=9), "tcb_rollback"),
        (Scenario(tcb_status="OutOfDate", tcb_date=aged(31)), "tcb_not_acceptable"),
    ],
    ids=lambda value: value if isinstance(value, str) else changed_knobs(value, Scenario()),
)
def test_a_stricter_policy_refuses_more(strict: Stage, scenario: Scenario, reason: str) -> None:
    refused(strict.quoted(scenario), reason)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(advisories=("INTEL-SA-00001",)),
        Scenario(tcb_status="OutOfDate", tcb_date=aged(29)),
        Scenario(evaluation_number=10),
    ],
    ids=lambda one: changed_knobs(one, Scenario()),
)
def test_what_a_policy_names_is_accepted(strict: Stage, scenario: Scenario) -> None:
    accepted(strict.quoted(scenario))


def test_every_knob_is_turned() -> None:
    platforms = [one for one, _ in REFUSED_PLATFORMS] + UNDECIDED_PLATFORMS + ACCEPTED_PLATFORMS
    enclaves = [one for one, _ in REFUSED_ENCLAVES] + ACCEPTED_ENCLAVES
    # `marked` goes with a root of its own: test_a_platform_under_another_root.
    for plain, cases, apart in ((Scenario(), platforms, {"marked"}), (ENCLAVE, enclaves, set())):
        knobs = {knob.name for knob in fields(plain)}
        turned = {name for name in knobs for case in cases if getattr(case, name) != getattr(plain, name)}
        assert turned | apart == knobs
    assert {one.tcb_status for one in platforms} == set(STATUSES)


def test_each_verdict_is_a_line_in_cores_log(stage: Stage) -> None:
    accepted(stage.quoted())
    refused(stage.quoted(Scenario(tcb_status="OutOfDate")), "tcb_not_acceptable")
    (*_, good) = verdict_lines(stage.core, "attestation accepted")
    for words in ("root=TEST", f"mr_enclave={MR_ENCLAVE.hex()}", "status=UpToDate", "report_data_version=2"):
        assert words in good["message"]
    (*_, bad) = verdict_lines(stage.core, "attestation refused", "tcb_not_acceptable")
    assert "OutOfDate" in bad["message"]
    assert f"mr_enclave={MR_ENCLAVE.hex()}" in bad["message"]
