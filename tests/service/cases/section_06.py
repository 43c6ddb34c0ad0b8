"""Normalisation (section 6), seen through identity/map: each valid input gives the raw id of its hash."""

import json
from pathlib import Path
from typing import Any

from case import Case, call, error
from stage import Answer, Stage

from uid2.protocol.encoding import encode_base64

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "normalisation.json").read_text())["cases"]
MAP, GENERATE = "/v3/identity/map", "/v2/token/generate"
HASH = encode_base64(bytes(range(32)))
HEX = bytes(range(32)).hex()
INVALID = error("Invalid Identifier")
EXACTLY_ONE = error(
    "Required Parameter Missing: exactly one of [email, email_hash, phone, phone_hash] must be specified"
)
EMAIL_ONLY = error("Required Parameter Missing: exactly one of email or email_hash must be specified")
WITHOUT_PHONES = {"enable_phone_support": False}


def vectors(kind: str, *, valid: bool) -> list[dict[str, Any]]:
    return [vector for vector in VECTORS if vector["kind"] == kind and vector["valid"] is valid]


def valid(section: str, kind: str) -> Case:
    """Inputs beside the hashes that they stand for."""
    chosen = vectors(kind, valid=True)
    hashed = kind.removesuffix("_hash") + "_hash"
    inputs = {kind: [vector["input"] for vector in chosen]}
    hashes = {hashed: [vector["hash_base64"] for vector in chosen]}
    asked = {hashed: inputs[kind] + hashes[hashed]} if kind == hashed else inputs | hashes

    def check(_: Stage, answer: Answer) -> None:
        body = answer.document["body"]
        mapped = body[kind] + (body[hashed] if kind != hashed else [])
        assert len(mapped) == 2 * len(chosen) > 0
        # One of the table's addresses is the test identity that is always opted out.
        assert all("u" in element or element == {"e": "optout"} for element in mapped)
        assert mapped[: len(chosen)] == mapped[len(chosen) :]

    return Case(section, "valid", kind, call(MAP, asked), check=check)


def invalid(section: str, row: str, kind: str, texts: list[str]) -> Case:
    body = {name: [] for name in ("email", "email_hash", "phone", "phone_hash")}
    expected = {"body": body | {kind: [{"e": "invalid identifier"}] * len(texts)}, "status": "success"}
    assert texts
    return Case(section, row, f"invalid {kind}", call(MAP, {kind: texts}), json=expected)


def hashes(row: str, kind: str, texts: list[str]) -> Case:
    """Texts of one hash."""

    def check(_: Stage, answer: Answer) -> None:
        first, *others = answer.document["body"][kind]
        assert "u" in first
        assert all(other == first for other in others)

    return Case("6.3", row, kind, call(MAP, {kind: texts}), check=check)


def succeeds(_: Stage, answer: Answer) -> None:
    assert answer.document["status"] == "success"


def invalid_inputs(kind: str) -> list[str]:
    return [vector["input"] for vector in vectors(kind, valid=False) if vector["input"] is not None]


CASES = [
    valid("6.1", "email"),
    invalid("6.1", "invalid", "email", invalid_inputs("email")),
    valid("6.2", "phone"),
    invalid("6.2", "invalid", "phone", [*invalid_inputs("phone"), "+١٢٣٤٥٦٧٨٩٠"]),
    hashes("44", "email_hash", [HASH, HEX]),
    hashes("64", "phone_hash", [HEX, HEX.upper(), HASH]),
    Case("6.3", "44", "33 and 31 bytes pass", call(MAP, {"email_hash": ["A" * 44, "A" * 42 + "=="]}), check=succeeds),
    invalid("6.3", "44", "email_hash", ["_" * 43 + "=", " " + "A" * 43, "A" * 43 + "?"]),
    invalid("6.3", "64", "phone_hash", ["g" * 64, " " + "0" * 63]),
    invalid("6.3", "other", "email_hash", ["", "AAAA", "A" * 43, HEX[:-1], HEX + "0", HASH + "\n"]),
    Case("6.4", "one", "none", call(GENERATE, {}), 400, EXACTLY_ONE),
    Case("6.4", "one", "null is none", call(GENERATE, {"email": None, "phone": None}), 400, EXACTLY_ONE),
    Case("6.4", "one", "two", call(GENERATE, {"email": "a@b.c", "phone": "x"}), 400, EXACTLY_ONE),
    Case("6.4", "one", "an empty text is one", call(GENERATE, {"email": ""}), 400, INVALID),
    Case(
        "6.4",
        "phones",
        "do not count",
        call(GENERATE, {"phone": "+1234567890"}),
        400,
        EMAIL_ONLY,
        settings=WITHOUT_PHONES,
    ),
    Case(
        "6.4",
        "phones",
        "do not conflict",
        call(GENERATE, {"email": "a@b.c", "phone": "+1234567890"}),
        settings=WITHOUT_PHONES,
        check=succeeds,
    ),
    Case(
        "6.4",
        "phones",
        "map v2 leaves them out",
        call("/v2/identity/map", {"phone": 7, "email": []}),
        json={"body": {"mapped": []}, "status": "success"},
        settings=WITHOUT_PHONES,
    ),
    Case(
        "6.4",
        "phones",
        "map v3 maps them",
        call(MAP, {"phone": ["+1234567890"]}),
        settings=WITHOUT_PHONES,
        check=lambda _, answer: _is_mapped(answer),
    ),
]


def _is_mapped(answer: Answer) -> None:
    assert "u" in answer.document["body"]["phone"][0]
