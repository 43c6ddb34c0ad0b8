import base64
import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.protocol.errors import ConfigurationError, DependencyError, StoreUnavailableError, Uid2Error
from uid2.service.exits import exit_code_of, run_main
from uid2.service.logs import set_up_logs
from uid2.service.redaction import redact


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def written(*, console: bool = False) -> io.StringIO:
    stream = io.StringIO()
    set_up_logs(console=console, stream=stream, service="uid2-operator")
    return stream


def test_a_line_is_one_json_object_with_its_fields() -> None:
    stream = written()
    logging.getLogger("uid2.x").warning("store %s\nfailed", "salt", extra={"age_seconds": 5})
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "uid2.x", "store salt\nfailed")
    assert (line["age_seconds"], line["service"]) == (5, "uid2-operator")
    assert line["timestamp"]


@pytest.mark.parametrize("console", [True, False])
def test_what_a_library_says_is_masked_in_text_fields_and_tracebacks(console: bool) -> None:
    stream = written(console=console)
    secret = base64.b64encode(bytes(range(100, 132))).decode()
    try:
        raise ValueError(f"bad token {secret}")
    except ValueError:
        logging.getLogger("x").exception("for %s", "someone@example.com", extra={"key": "UID2-C-L-124-H8VwqX.l2G4"})
    text = stream.getvalue()
    assert "<redacted>" in text
    for canary in (secret, "someone", "H8VwqX"):
        assert canary not in text
    assert "ValueError" in text


@pytest.mark.parametrize(
    "canary",
    [
        "user.name+tag@mail.example.co",
        "+14155550123",
        "UID2-C-L-124-H8VwqX.l2G4TCuUWYAqdqkeG/UqtFoPEoXirKn4kHWxc=",
        "UID2-O-L-127-pDqph.",
        "UID2-O-L-127-pDqphU",
        "UID2-O-L-127-abc.def",
        "EUID-C-I-5-xyz.abc",
        "Bearer abc.def",
        "4f" * 32,
        "aG9zdGlsZQ7xK2mPq9LwZr4TbVcX/optout-delta-000_2026-11-25T18",
    ],
)
def test_masked(canary: str) -> None:
    text = redact(f"before {canary} after")
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert canary.split()[-1] not in text


def test_masking_keeps_a_line_one_json_object() -> None:
    stream = written()
    logging.getLogger("x").warning('{"key":"%s"}', "UID2-C-L-124-H8VwqX.l2G4")
    assert json.loads(json.loads(stream.getvalue())["message"]) == {"key": "<redacted>"}


@given(st.binary(min_size=32, max_size=200))
def test_encoded_bytes_are_masked(data: bytes) -> None:
    for text in (data.hex(), base64.b64encode(data).decode()):
        # Text of one letter case without digits is what names look like; random bytes do not encode to it.
        mixed = any(c.isdigit() for c in text) and any(c.isupper() for c in text) and any(c.islower() for c in text)
        if mixed or text == data.hex():
            assert text not in redact(f'"{text}"')


@pytest.mark.parametrize(
    "text",
    [
        "client_side_token_generate_domain_name_check_enabled",
        "loaded /opt/uid2/operator-optout/consumer/delta/optout-delta-000.dat",
        "wrote optout/delta/2026-11-25/optout-delta-000_2026-11-25T18.33.30Z_59e7d165.dat with 7 opt-outs",
        "uid2_operator_identity_map_unmapped_requests_total 1700000000000",
        "/com.uid2.core/test/keyset_keys/metadata.json in 15 ms",
        "operator Special (UID2-O-L-999-dp9Dt) attested",
        f"mr_enclave={'4f' * 32} root=TEST",
    ],
)
def test_names_paths_and_numbers_stay_readable(text: str) -> None:
    assert redact(text) == text


class RefusedError(Uid2Error):
    code = "attestation_refused"


@pytest.mark.parametrize(
    ("error", "at_start", "later"),
    [
        (ConfigurationError("x"), 2, 2),
        (RefusedError("x"), 3, 3),
        (DependencyError("x"), 4, 1),
        (StoreUnavailableError("x"), 4, 1),
        (Uid2Error("x"), 1, 1),
        (RuntimeError("x"), 1, 1),
    ],
)
def test_exit_codes(error: Exception, at_start: int, later: int) -> None:
    assert (exit_code_of(error), exit_code_of(error, started=True)) == (at_start, later)

    async def fail() -> int:
        raise error

    stream = written()
    assert run_main(fail()) == at_start
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["level"], last["exit_code"]) == ("CRITICAL", at_start)
    assert "cause" in last
    assert run_main(fail(), has_started=lambda: True) == later


def test_a_program_that_ends_well() -> None:
    async def succeed() -> None:
        return None

    async def choose() -> int:
        return 7

    assert (run_main(succeed()), run_main(choose())) == (0, 7)


def test_people_read_the_next_step() -> None:
    async def fail() -> int:
        raise ConfigurationError("port taken", next_step="stop the other one")

    stream = written(console=True)
    run_main(fail())
    assert stream.getvalue().splitlines()[-1].strip() == "next step: stop the other one"
