"""The command line without an operator: errors, explanations, layout."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from uid2.cli.layout import distance, moment
from uid2.cli.main import app
from uid2.devstack.state import keyset_keys_file, open_state
from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.envelope import seal_request, seal_response
from uid2.protocol.errors import ConfigurationError, Uid2Error
from uid2.protocol.ids import EpochMillis, FirstLevelHash, IdentityScope, IdentityType, RawUid, SiteId, TokenVersion
from uid2.protocol.keysets import KeysetKey, parse_keyset_keys
from uid2.protocol.optout_log import OptOutEntry, encode_entry, end_entry, start_entry
from uid2.protocol.tokens.advertising import AdvertisingToken, encode_advertising_token
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.refresh import RefreshToken, encode_refresh_token
from uid2.protocol.tokens.wrapped import wrap_refresh_token

NOW = EpochMillis(1_795_000_000_000)
SECRET = encode_base64(bytes(range(32)))


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    open_state(folder, salts=20, scope="uid2", now=NOW, draw=random.Random(3).randbytes)
    return folder


@pytest.fixture(scope="module")
def keys(state: Path) -> dict[int, KeysetKey]:
    return {int(key.keyset_id): key for key in reversed(parse_keyset_keys(keyset_keys_file(state).read_bytes()))}


def advertising_token(keys: dict[int, KeysetKey], version: TokenVersion) -> str:
    token = AdvertisingToken(
        scope=IdentityScope.UID2,
        identity_type=IdentityType.EMAIL,
        expires=EpochMillis(NOW + 1000),
        created=NOW,
        publisher=PublisherIdentity(SiteId(123)),
        privacy_bits=3,
        established=NOW,
        refreshed=NOW,
        raw_uid=RawUid(bytes(range(32))),
    )
    iv = bytes(16 if version is TokenVersion.V2 else 12)
    return encode_advertising_token(token, keys[-1], keys[4], iv, iv, version)


@pytest.mark.parametrize(("version", "name"), [(TokenVersion.V2, "2"), (TokenVersion.V3, "3"), (TokenVersion.V4, "4")])
def test_inspect_token_of_every_version(
    state: Path, keys: dict[int, KeysetKey], version: TokenVersion, name: str
) -> None:
    text = advertising_token(keys, version)

    closed = run("inspect", "token", text)
    opened = run("inspect", "token", text, "--state", str(state))

    assert f"version {name}" in closed
    assert "master key 1" in closed
    assert encode_base64(bytes(range(32))) not in closed
    assert encode_base64(bytes(range(32))) in opened
    assert "client-side generated" in opened
    assert "2026-11-18 11:06:40.000 UTC" in opened


def test_inspect_refresh_token_wrapped_and_bare(state: Path, keys: dict[int, KeysetKey]) -> None:
    token = RefreshToken(
        scope=IdentityScope.UID2,
        identity_type=IdentityType.PHONE,
        expires=NOW,
        created=NOW,
        publisher=PublisherIdentity(SiteId(123)),
        privacy_bits=1,
        established=NOW,
        first_level_hash=FirstLevelHash(b"\x77" * 32),
    )
    bare = encode_refresh_token(token, keys[-2], bytes(12))
    wrapped = wrap_refresh_token(bare, bytes(32), IdentityScope.UID2, keys[-2], bytes(12))

    for text in (bare, wrapped):
        output = run("inspect", "refresh-token", text, "--state", str(state))
        assert "UID2 phone" in output
        assert "refresh key 2" in output
        assert encode_base64(b"\x77" * 32) not in output
    assert "the wrapped form" in run("inspect", "refresh-token", wrapped)


def test_inspect_envelopes() -> None:
    key = GcmKey(bytes(range(32)))
    request = encode_base64(seal_request(b'{"a":1}', b"nonce 8b", NOW, key, bytes(12)))
    response = encode_base64(seal_response(b'{"b":2}', b"nonce 8b", NOW, key, bytes(12)))

    assert '{"a":1}' in run("inspect", "envelope", request, "--secret", SECRET)
    assert '{"b":2}' in run("inspect", "envelope", response, "--secret", SECRET, "--response")
    assert '{"a":1}' not in run("inspect", "envelope", request)
    with pytest.raises(Uid2Error, match="first byte"):
        run("inspect", "envelope", encode_base64(bytes([9]) * 60))


def test_inspect_salts(state: Path) -> None:
    folder = state / "stores-uid2" / "salts"
    file = next(folder.glob("salts.txt.*"))
    salt = file.read_text().splitlines()[3].split(",")[2]

    output = run("inspect", "salts", str(file), "--row", "3")

    assert "rows                 20" in output
    assert "1000003" in output
    assert salt not in output
    assert "snapshot in use" in run("inspect", "salts", str(folder / "metadata.json"))
    with pytest.raises(ConfigurationError, match="no row 20"):
        run("inspect", "salts", str(file), "--row", "20")


def test_inspect_delta(tmp_path: Path) -> None:
    entry = OptOutEntry(IdentityHashOf(1), b"\x05" * 32, 1_700_000_000)
    file = tmp_path / "optout-delta-000_2024-08-01T10.07.00Z_64692b14.dat"
    file.write_bytes(b"".join(encode_entry(e) for e in (start_entry(1), entry, end_entry(2))) + b"torn")

    output = run("inspect", "delta", str(file))

    assert "3 entries" in output
    assert "2024-08-01 10:07:00" in output
    assert "start of window" in output
    assert encode_base64(b"\x05" * 32) in output
    assert encode_base64(IdentityHashOf(1)) not in output
    assert "4 bytes beyond" in output


def IdentityHashOf(byte: int) -> FirstLevelHash:  # noqa: N802 - reads as a value
    return FirstLevelHash(bytes([byte]) * 32)


@pytest.mark.parametrize("text", ["", "x", "!!!!", "A" * 20, "AgAA"])
def test_what_is_no_token_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Uid2Error) as refusal:
        run("inspect", "token", text)

    assert len(text) < 3 or text not in refusal.value.diagnosis()


def uid2(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("UID2_")}
    return subprocess.run(
        [sys.executable, "-m", "uid2.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**env, **environment},
    )


def test_errors_end_as_message_and_next_step(tmp_path: Path) -> None:
    result = uid2("token", "someone@example.com", "--state", str(tmp_path))

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: no stack is running from {tmp_path}\n  next step: start one with `uid2 up`, or give --url\n"
    )


def test_an_operator_that_is_not_there_is_exit_4() -> None:
    result = uid2(
        "token", "someone@example.com", "--url", "http://127.0.0.1:9", "--key", "k", UID2_CLIENT_SECRET=SECRET
    )

    assert result.returncode == 4
    assert "does not answer" in result.stderr
    assert "someone@example.com" not in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("token", "not an address"), "neither an e-mail address nor a phone number"),
        (("map", "/no/such/file.csv"), "cannot be read"),
        (("token", "a@b.c", "--key", "k"), "belong together"),
    ],
)
def test_wrong_arguments_are_exit_2(words: tuple[str, ...], text: str) -> None:
    result = uid2(*words)

    assert result.returncode == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_line_starts_without_heavy_imports() -> None:
    script = (
        "import sys, uid2.cli.main; print(sorted({'httpx', 'cryptography', 'msgspec', 'obstore'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert json.loads(result.stdout.replace("'", '"')) == []


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0, "0 s"), (59_000, "59 s"), (900_000, "15 min"), (3_661_000, "1 h 1 min"), (90_000_000, "1 d 1 h")],
)
def test_distances(at: int, expected: str) -> None:
    assert distance(NOW + at, NOW) == f"in {expected}"
    assert at == 0 or distance(NOW - at, NOW) == f"{expected} ago"


def test_moments_beyond_the_calendar_are_given_as_numbers() -> None:
    assert moment(0) == "1970-01-01 00:00:00.000 UTC"
    assert moment(253_402_329_599_000) == "253402329599000 ms"
    assert moment(-(1 << 63)) == f"{-(1 << 63)} ms"
