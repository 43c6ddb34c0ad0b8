import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.ids import IdentityType
from uid2.protocol.normalize import InputKind, identity_hash_from, is_phone, normalize_email

CASES = json.loads((Path(__file__).parents[2] / "vectors/normalisation.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vector(case: dict[str, Any]) -> None:
    kind = InputKind(case["kind"])
    found = identity_hash_from(kind, case["input"])
    assert (found is not None) == case["valid"]
    if found is not None:
        assert found.hex() == case["hash_hex"]
    if kind is InputKind.EMAIL:
        assert normalize_email(case["input"]) == case.get("normalized")
    if kind is InputKind.PHONE:
        assert is_phone(case["input"]) == case["valid"]


@given(st.text(st.sampled_from("aZ.+@ gmailcoÄİ\t\n"), max_size=30))
def test_normal_form_agrees_with_the_character_rules(text: str) -> None:
    assert normalize_email(text) == _by_character(text)


def _by_character(text: str) -> str | None:
    """The table of the operator chapter, 6.1, one character at a time."""
    plain = gmail = domain = held = ""
    seen_at = seen_plus = False
    for character in text:
        folded = chr(ord(character) + 32) if "A" <= character <= "Z" else character
        if seen_at:
            if folded == "@":
                return None
            if folded == " ":
                held += " "
            else:
                domain, held = domain + held + folded, ""
        elif folded == "@":
            seen_at = True
        elif folded != " ":
            plain += folded
            seen_plus = seen_plus or folded == "+"
            if folded != "." and not seen_plus:
                gmail += folded
    local = gmail if domain == "gmail.com" else plain
    return f"{local}@{domain}" if local and domain else None


def test_full_case_folding_is_not_applied() -> None:
    assert normalize_email("ÄB@ÖC.de") == "Äb@Öc.de"
    assert identity_hash_from(InputKind.EMAIL, "Ä@x") == sha256("Ä@x".encode()).digest()


def test_text_without_utf8_form_is_invalid() -> None:
    assert identity_hash_from(InputKind.EMAIL, "\ud800@x") is None


def test_digits_of_other_scripts_are_no_phone() -> None:
    assert not is_phone("+١٢٣٤٥٦٧٨٩٠١")
    assert not is_phone("+1234567890\n")


def test_kinds_name_their_type() -> None:
    assert [kind.identity_type for kind in InputKind] == [IdentityType.EMAIL] * 2 + [IdentityType.PHONE] * 2
    assert [kind.value for kind in InputKind] == ["email", "email_hash", "phone", "phone_hash"]
