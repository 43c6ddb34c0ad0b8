"""docs/attestation.md explains every reason that Core gives."""

import re
from pathlib import Path

from uid2.attestation.policy import DEFAULT_STATUSES, STATUSES, parse_policy
from uid2.attestation.reasons import AttestationReason
from uid2.protocol.json_text import parse_object

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/attestation.md").read_text(encoding="utf-8")
UNDECIDED = {AttestationReason.COLLATERAL_EXPIRED, AttestationReason.COLLATERAL_MISSING}


def test_every_reason_has_a_row() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", GUIDE, re.M))
    handler = (ROOT / "src/uid2/core/handlers/attest.py").read_text(encoding="utf-8")
    given = set(re.findall(r'Refused\(\d{3}, "(\w+)"', handler)) | {"not_ready"}
    assert given >= {"unknown_protocol", "bad_nonce", "trusted_refused"}
    assert set(rows) == {reason.value for reason in AttestationReason} | given
    for reason in AttestationReason:
        assert rows[reason] == ("503" if reason in UNDECIDED else "403")


def test_the_policy_shown_is_the_one_built_in() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", GUIDE, re.S)
    assert parse_policy(parse_object(shown.encode())) == parse_policy({})
    assert frozenset(parse_object(shown.encode())["accepted_statuses"]) == DEFAULT_STATUSES


def test_every_status_is_explained() -> None:
    assert all(f"`{status}`" in GUIDE for status in STATUSES)
